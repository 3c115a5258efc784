# SPDX-License-Identifier: GPL-2.0-only
# Judges what a guest printed: frames of KTAP, as init makes them.
#   awk -v expect="load alpha unload" -v pattern=P -v counts=FILE -f sum.awk OUTPUT
# Prints a line a program and every failure and skip; writes the number of
# tests passed, failed and skipped to FILE. With a pattern, programs in which
# nothing fits it do not count. A program that did not run, died,
# ran another number of tests than it planned, or exits non-zero without a
# failed test counts as one failed test more.

function failed(what, why)
{
	fail[prog]++
	notes = notes "    FAILED  " prog ": " what (why == "" ? "" : ": " why) "\n" diag
	diag = ""
}

function end_of_program(status)
{
	if (status == "")
		failed("the program", "it never ended; the guest died or hung in it")
	else if (planned < 0)
		failed("the program", "it printed no plan; exit status " status)
	else if (planned != ran)
		failed("the program", "it planned " planned " tests and ran " ran "; exit status " status)
	else if (status != 0 && !fail[prog])
		failed("the program", "exit status " status ", and no test failed")
	if (!quiet || fail[prog])
		printf "  %-24s %3d passed%s%s\n%s", prog, pass[prog],
			fail[prog] ? ", " fail[prog] " FAILED" : "",
			skip[prog] ? ", " skip[prog] " skipped" : "", notes
	done[prog] = 1
	prog = notes = diag = ""
}

function start_of_program(name)
{
	if (prog != "")
		end_of_program("")
	prog = name
	planned = -1
	ran = 0
	quiet = 0
}

{ sub(/\r+$/, "") }

/^# suite: [^ ]+ start$/ { start_of_program($3); next }
/^# suite: [^ ]+ exit [0-9]+$/ && $3 == prog { end_of_program($5); next }
prog == "" { next }

/^1\.\.[0-9]+/ {
	if (planned >= 0)
		failed("the program", "it printed two plans")
	planned = substr($1, 4) + 0
	# A plan of no tests is a program skipped, if it says why.
	if (planned == 0 && pattern != "" && /no test here fits the pattern/) {
		quiet = 1
	} else if (planned == 0) {
		why = $0
		if (sub(/^[^#]*# *SKIP */, "", why) && why != "") {
			skip[prog]++
			notes = notes "    skipped " prog ": " why "\n"
		} else
			failed("the program", "it planned no test and gave no reason")
	}
	next
}

/^(not )?ok [0-9]+/ {
	number = ($1 == "ok" ? $2 : $3) + 0
	what = $0
	sub(/^(not )?ok [0-9]+ *(- *)?/, "", what)
	why = ""
	if (match(what, / *# */)) {
		why = substr(what, RSTART + RLENGTH)
		what = substr(what, 1, RSTART - 1)
	}
	ran++
	if (number != ran)
		failed(what, "its number is " number " and should be " ran)
	else if ($1 == "not")
		failed(what, why)
	else if (why ~ /^SKIP/) {
		sub(/^SKIP */, "", why)
		if (why == "")
			failed(what, "skipped without a reason")
		else {
			skip[prog]++
			notes = notes "    skipped " prog ": " what ": " why "\n"
		}
	} else
		pass[prog]++
	diag = ""
	next
}

# Lines between results belong to the next one and are shown if it fails.
/^KTAP version/ || /^TAP version/ { next }
{ diag = diag "            " $0 "\n" }

END {
	if (prog != "")
		end_of_program("")
	n = split(expect, programs, " ")
	for (i = 1; i <= n; i++) {
		prog = programs[i]
		if (!(prog in done)) {
			fail[prog]++
			printf "  %-24s did not run\n    FAILED  %s: the guest never came to it\n", prog, prog
		}
		total_pass += pass[prog]
		total_fail += fail[prog]
		total_skip += skip[prog]
		delete done[prog]
	}
	for (prog in done) {
		printf "  %-24s FAILED: it was not expected to run\n", prog
		total_fail += 1
	}
	print total_pass + 0, total_fail + 0, total_skip + 0 > counts
}
