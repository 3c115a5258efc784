# SPDX-License-Identifier: GPL-2.0-only
# The report of make bench: reads the file targets, what bench printed on the
# reference kernel, and what on the stock one. Prints the table, writes `json`,
# the page `page`, and `bars` for chart.gnuplot; exits with 1 if a row is missed.

# In three digits
function short(n) { return sprintf(n >= 100 ? "%.0f" : n >= 10 ? "%.1f" : "%.2f", n) }

function number(n)
{
	if (n == "")
		return "-"
	return n >= 1e6 ? short(n / 1e6) "M" : n >= 1e4 ? short(n / 1e3) "k" : n ""
}

# A row by name and backend, with its unit
function value(row, backend, unit)
{
	row = number(median[row, backend])
	return row == "-" || unit != "KiB" ? row : row " KiB"
}

function spread(row, backend)
{
	if (!((row, backend) in median))
		return "-"
	if (low[row, backend] == high[row, backend])
		return "none"
	return number(low[row, backend]) " to " number(high[row, backend])
}

function or_null(n) { return n == "" ? "null" : n }

function json_row(name, theirs, ours, target, met, bound)
{
	printf "%s\n  {\"name\": \"%s\", \"mainline\": %s, \"ours\": %s, \"target\": %s, \"met\": %s, \"bound\": %s}", \
		rows++ ? "," : "[", name, or_null(theirs), or_null(ours), or_null(target), or_null(met), or_null(bound) > json
}

FNR == 1 { file++ }

# the targets
file == 1 && !/^#/ && NF {
	nr++
	theirs[nr] = $1
	ours[nr] = $2
	target[nr] = $3
	bound[nr] = $4
	unit[nr] = $5
	for (i = 1; i <= 5; i++)
		sub(/^[^ \t]+[ \t]+/, "")
	what[nr] = $0
}

# "row backend median low high rounds"; "stock/" is put before those of the stock kernel
file > 1 && /^[a-z0-9_]+ [a-z_]+ [0-9]+ [0-9]+ [0-9]+ [0-9]+$/ {
	at = (file == 3 ? "stock/" : "") $1
	median[at, $2] = $3
	low[at, $2] = $4
	high[at, $2] = $5
}

END {
	for (i = 1; i <= nr; i++) {
		m = median[theirs[i], "mainline"]
		o = median[ours[i], "ours"]
		split(bound[i], b, ":")
		floor[i] = bound[i] == "-" ? "" : median[b[1], b[2]]
		if (o == "") {
			printf "report: nothing was measured for '%s'\n", ours[i] > "/dev/stderr"
			exit 2
		}
		# "102%": of what mainline takes
		if (sub(/%$/, "", target[i])) {
			if (m == "") {
				printf "report: nothing was measured for mainline's '%s'\n", theirs[i] > "/dev/stderr"
				exit 2
			}
			target[i] = int(m * target[i] / 100)
		}
		met[i] = o <= target[i] + 0
		# No excuse but one that was measured.
		excused[i] = !met[i] && floor[i] != "" && floor[i] > target[i] + 0
		if (!met[i] && !excused[i])
			missed++
		ratio[i] = m == "" ? "-" : !o ? "-" : m / o >= 100 ? sprintf("%.0f", m / o) : sprintf("%.1f", m / o)
	}

	printf "%-55s %9s %9s %7s %8s  %s\n", "median, in guest instructions", "mainline", "ours", "ratio", "at most", ""
	for (i = 1; i <= nr; i++)
		printf "%-55s %9s %9s %7s %8s  %s\n", what[i], value(theirs[i], "mainline", unit[i]), \
			value(ours[i], "ours", unit[i]), ratio[i], number(target[i]), \
			met[i] ? "" : excused[i] ? "bound: " number(floor[i]) : "MISSED"

	for (i = 1; i <= nr; i++)
		json_row(what[i], median[theirs[i], "mainline"], median[ours[i], "ours"], target[i], \
			met[i] ? "true" : "false", floor[i])
	for (i = 1; i <= nr; i++)
		if (("stock/" ours[i], "ours") in median)
			json_row(what[i] " (" stock ")", "", median["stock/" ours[i], "ours"], "", "", "")
	print "\n]" > json

	print "<!-- Written by make bench. -->" > page
	print "# Performance\n" > page
	print "How many instructions a call takes: mainline's noiommu cdev and ours, side by side" > page
	print "in one boot of a Linux 7.3 that has both, each with a device attached.\n" > page
	print "![Instructions a call, mainline and noiommufd](performance.svg)\n" > page
	print "| operation | mainline 7.3 | ours | ratio | target: at most | met |" > page
	print "|---|--:|--:|--:|--:|---|" > page
	for (i = 1; i <= nr; i++)
		printf "| %s | %s | %s | %s | %s | %s |\n", what[i], value(theirs[i], "mainline", unit[i]), \
			value(ours[i], "ours", unit[i]), ratio[i], number(target[i]), \
			met[i] ? "yes" : excused[i] ? "no: nobody is below " number(floor[i]) : "no" > page
	print "\nThe fewest calls are one of our own, NOIOMMUFD_IOAS_GET_PA_RUNS, where there is" > page
	print "one, else GET_PA. The same by GET_PA alone, and what else there is to compare with:\n" > page
	print "| operation | mainline 7.3 | ours | ours, Debian 12's " stock " | io_uring | mlock, pagemap |" > page
	print "|---|--:|--:|--:|--:|--:|" > page
	more = "get_pa_4k:GET_PA, one 4 KiB page;get_pa_2m_hugetlb:GET_PA, 2 MiB of hugetlb in one call;" \
		"translate_1g_hugetlb:translate 1 GiB of hugetlb, GET_PA;translate_1g_scattered:translate 1 GiB scattered, GET_PA;" \
		"runs_1g_hugetlb:translate 1 GiB of hugetlb, one call;runs_1g_scattered:translate 1 GiB scattered, one call;" \
		"map_4k:MAP 4 KiB;map_1g_hugetlb:MAP 1 GiB, hugetlb;map_1g_thp:MAP 1 GiB, THP;map_1g_scattered:MAP 1 GiB, scattered;" \
		"unmap_4k:UNMAP 4 KiB;unmap_1g_hugetlb:UNMAP 1 GiB, hugetlb;unmap_1g_thp:UNMAP 1 GiB, THP;unmap_1g_scattered:UNMAP 1 GiB, scattered;" \
		"copy_1g_hugetlb:COPY 1 GiB, hugetlb;copy_1g_scattered:COPY 1 GiB, scattered;" \
		"get_pa_before_copy_scattered:GET_PA of a page in it;get_pa_after_copy_scattered:the first GET_PA of the copy;unmap_copy_1g_scattered:UNMAP of the copy, scattered;" \
		"get_pa_einval:GET_PA that fails with EINVAL"
	n = split(more, list, ";")
	for (i = 1; i <= n; i++) {
		split(list[i], b, ":")
		printf "| %s | %s | %s | %s | %s | %s |\n", b[2], number(median[b[1], "mainline"]), number(median[b[1], "ours"]), \
			number(median["stock/" b[1], "ours"]), number(median[b[1], "io_uring"]), number(median[b[1], "pagemap"]) > page
	}
	print "\nio_uring pins a registered buffer, and unpins it: where every page has a pin of its" > page
	print "own, that is a floor. mlock() keeps memory from being swapped out, but not from being" > page
	print "moved; pagemap is read at once for all of it. A missed target is excused only where" > page
	print "such a bound, measured in the same run, is above it.\n" > page

	print "## How it is measured\n" > page
	print "`make bench` builds Linux 7.3 (" source ") with its noiommu cdev and" > page
	print "tests/bench/linux-7.3-noiommu.config, and our modules for it (`NATIVE=1`), and boots it in QEMU" > page
	print "with `-icount shift=0` and one processor. The time stamp counter counts instructions then: a" > page
	print "getppid() takes " median["getppid", "kernel"] " of them. tests/bench/bench.c is what makes the calls; it runs again on the stock" > page
	print "kernel of Debian 12, " stock ".\n" > page
	print "- A number is a median: of 2001 rounds for what is about single pages, of 5 for a GiB." > page
	print "- Single pages are measured while the IOAS has 10,000 areas at random addresses." > page
	print "- All memory is touched in random order first, so that neighbours are apart: 4 KiB pages" > page
	print "  (\"scattered\") and 2 MiB pages alike." > page
	print "- The program has no CAP_IPC_LOCK, so that memory is charged. When MAP returns, pins" > page
	print "  (/proc/vmstat), VmPin and the charge are in place; when UNMAP returns, they are gone." > page
	print "- Every address is compared with pagemap's." > page
	print "- Kernel memory is what the free pages are fewer by, those that processors keep at hand" > page
	print "  counted as free; of which vmalloc: " number(median["vmalloc_1g_scattered", "ours"]) " KiB scattered, " number(median["vmalloc_1g_hugetlb", "ours"]) " KiB hugetlb." > page
	print "- An instruction that locks a cache line has a lock prefix or is an exchange with memory;" > page
	print "  tests/bench/where.c, a plugin of QEMU's, sees each.\n" > page
	print "`make bench ROW=map_4k` tells by function where the instructions of a call go.\n" > page
	print "Built by " compiler "; run by " emulator ".\n" > page
	print "## Spread\n" > page
	print "From the 5th to the 95th percentile of the rounds; the counts repeat from run to run.\n" > page
	print "| operation | mainline 7.3 | ours |" > page
	print "|---|--:|--:|" > page
	for (i = 1; i <= nr; i++)
		printf "| %s | %s | %s |\n", what[i], spread(theirs[i], "mainline"), spread(ours[i], "ours") > page

	# From the bottom to the top
	for (i = nr; i >= 1; i--)
		if (unit[i] == "insns")
			printf "\"%s\" %s %s %s\n", what[i], median[theirs[i], "mainline"], median[ours[i], "ours"], target[i] > bars

	if (missed) {
		printf "%d of %d rows miss their target\n", missed, nr
		exit 1
	}
}
