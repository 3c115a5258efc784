# SPDX-License-Identifier: GPL-2.0-only
# What the program conformance printed, against what it printed on mainline.
#   awk [-v reference=1] [-v pattern=GLOB] -f compare.awk excused.txt \
#	../../docs/deviations.md mainline-7.3.txt OUTPUT
# Prints KTAP, a test a group of lines, after each line that differs. The lines
# of excused.txt stand for those of the record, but not where mainline itself
# runs (reference). The last test is of excused.txt: each excuse has a row in
# deviations.md, excuses something, and there are 20 at most.

function glob(text)
{
	gsub(/[.^$+(){}|[\]\\]/, "\\\\&", text)
	gsub(/\*/, ".*", text)
	gsub(/\?/, ".", text)
	return "^" text "$"
}

function wanted(name)
{
	return pattern == "" || ("conformance." name) ~ glob(pattern) ||
		name ~ glob(pattern) || "conformance" ~ glob(pattern)
}

function group_of(key)
{
	sub(/\..*/, "", key)
	return key
}

function complain(text)
{
	print "# " text
	bad++
}

function result(name)
{
	ran++
	print (bad ? "not ok " : "ok ") ran " conformance." name (bad ? " # " bad (bad > 1 ? " things" : " thing") " wrong" : "")
	failed += bad > 0
	bad = 0
}

FNR == 1 { file++ }
{ sub(/\r$/, "") }

# ROW always|older LINE: where the kernel's vfio-pci-core is an older one
# ("older"), the record's own line will do as well.
file == 1 && !/^#/ && NF {
	line = $0
	sub(/^[^ ]+ [^ ]+ /, "", line)
	key = line
	sub(/ .*/, "", key)
	excused[key] = line
	row_of[key] = $1
	either[key] = $2 == "older"
	excuses++
}

# | `row` | mainline | ours | why |, and a list of rows that no line can show.
file == 2 && /^\| `/ {
	split($0, cell, "`")
	row[cell[2]] = 1
}
file == 2 && /but for these:/ { in_list = 1 }
file == 2 && !NF { in_list = 0 }
file == 2 && in_list {
	n = split($0, cell, "`")
	for (i = 2; i <= n; i += 2)
		if (cell[i] !~ / /)
			unseen[cell[i]] = 1
}

file == 3 {
	record[$1] = $0
	order[++lines] = $1
	if (!(group_of($1) in seen)) {
		seen[group_of($1)] = 1
		groups[++nr_groups] = group_of($1)
	}
}

file == 4 {
	if ($1 in got || $1 ~ /\.setup$/)
		extra[group_of($1)] = extra[group_of($1)] "\n" $0
	else if ($1 in record)
		got[$1] = $0
	else
		extra[group_of($1)] = extra[group_of($1)] "\n" $0
}

END {
	for (i = 1; i <= nr_groups; i++)
		plan += wanted(groups[i])
	plan += wanted("excused") && !reference
	print "KTAP version 1"
	if (!plan) {
		print "1..0 # SKIP no test here fits the pattern"
		exit
	}
	print "1.." plan

	for (i = 1; i <= lines; i++) {
		key = order[i]
		name = group_of(key)
		if (wanted(name)) {
			want = key in excused && !reference ? excused[key] : record[key]
			if (!(key in got))
				complain("missing:  " want)
			else if (got[key] != want && !(either[key] && got[key] == record[key])) {
				complain("expected: " want)
				print "# got:      " got[key]
			}
		}
		if (i < lines && group_of(order[i + 1]) == name)
			continue
		if (wanted(name)) {
			n = split(extra[name], more, "\n")
			for (j = 2; j <= n; j++)
				complain("not in the record: " more[j])
			result(name)
		}
		delete extra[name]
	}

	if (!reference && wanted("excused")) {
		for (key in excused) {
			name = row_of[key]
			if (!(key in record))
				complain("excused.txt: there is no line " key)
			else if (record[key] == excused[key])
				complain("excused.txt: mainline says the same: " excused[key])
			if (!(name in row) || name in unseen)
				complain("excused.txt: docs/deviations.md has no row " name ", or says that no line shows it")
			used[name] = 1
		}
		for (name in row)
			if (!(name in unseen) && !used[name])
				complain("docs/deviations.md: the row " name " excuses nothing")
		for (name in unseen)
			if (!(name in row))
				complain("docs/deviations.md: there is no row " name)
		if (excuses > 20)
			complain("excused.txt: " excuses " lines, and 20 are the most")
		result("excused")
	}
	exit failed > 0
}
