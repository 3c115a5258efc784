# SPDX-License-Identifier: GPL-2.0-only
# Test by test, what the selftests said on mainline and on ours.
#   awk -f compare.awk cannot-run OUTPUT
# OUTPUT has frames of KTAP, as init makes them. Prints a line a program, what
# cannot run and why, what is wrong, and the sum; exits 1 if something is wrong:
# a test that passes on mainline alone, one that does not pass there and has no
# row in cannot-run, a row that is not needed, a program that came to no end.

function glob(text)
{
	gsub(/[.^$+(){}|[\]\\]/, "\\\\&", text)
	gsub(/\*/, ".*", text)
	return "^" text "$"
}

function complain(text)
{
	wrong[++bad] = text
}

function result(test, is)
{
	name = program "/" test
	if (!((side, name) in said))
		ran[side, program]++
	else
		complain(name " is said twice on " side)
	said[side, name] = is
	sum[side, program, is]++
	if (!(name in seen))
		tests[++count] = name
	seen[name] = 1
}

FNR == 1 { file++ }

file == 1 && !/^#/ && NF {
	row[++rows] = glob($1)
	shown[rows] = $1
	sub(/^[^ \t]+[ \t]+/, "")
	reason[rows] = $0
}
file == 1 { next }

/^# suite: [^ ]+ start$/ {
	split($3, part, "/")
	side = part[1]
	program = part[2]
	planned = -1
	if (!(program in listed))
		programs[++n] = program
	listed[program] = 1
	next
}

# Skipped as a whole: no plan, or one of no tests
/^# suite: [^ ]+ exit [0-9]+$/ {
	if ($5 == 4 && planned <= 0)
		result("all", "skipped")
	else if (planned < 0 || planned != ran[side, program])
		complain(program " on " side ": planned " planned " tests and ran " ran[side, program] + 0)
	ended[side, program] = 1
	next
}

/^1\.\.[0-9]+/ { planned = substr($1, 4) + 0 }

/^(not )?ok [0-9]+ / {
	is = $1 == "not" ? "failed" : /# *SKIP/ ? "skipped" : "passed"
	sub(/^(not )?ok [0-9]+ (- *)?/, "")
	sub(/ *#.*/, "")
	result($0, is)
}

END {
	for (i = 1; i <= count; i++) {
		name = tests[i]
		on_mainline = said["mainline", name]
		on_ours = said["ours", name]
		whose = name ~ /^noiommu_cdev/ ? "this project" : "the kernel"
		of[whose]++
		if (on_mainline == "passed") {
			passed[whose]++
			if (on_ours == "passed")
				both[whose]++
			else
				complain(name " passes on mainline; on ours: " (on_ours == "" ? "did not run" : on_ours))
		}
		for (r = 1; r <= rows; r++)
			if (name ~ row[r])
				break
		if (r > rows) {
			if (on_mainline != "passed")
				complain(name " does not pass on mainline (" (on_mainline == "" ? "did not run" : on_mainline) ") and has no row in cannot-run")
		} else if (on_mainline != "passed") {
			uses[r]++
		}
	}
	for (i = 1; i <= n; i++) {
		p = programs[i]
		for (s = 1; s <= 2; s++) {
			side = s == 1 ? "mainline" : "ours"
			if (!((side, p) in ended))
				complain(p " came to no end on " side)
			text[s] = sprintf("%s %3d passed, %2d skipped, %3d failed", side, sum[side, p, "passed"], sum[side, p, "skipped"], sum[side, p, "failed"])
		}
		printf "  %-32s %s; %s\n", p, text[1], text[2]
	}
	print "  what cannot run, by the rows of cannot-run:"
	for (r = 1; r <= rows; r++) {
		printf "  %5d  %s: %s\n", uses[r], shown[r], reason[r]
		if (!uses[r])
			complain("the row " shown[r] " of cannot-run is not needed")
	}
	for (i = 1; i <= 2; i++) {
		whose = i == 1 ? "the kernel" : "this project"
		if (!passed[whose])
			complain("no selftest of " whose " passed on mainline")
		text[i] = sprintf("  selftests of %s: %d, on mainline %d passed and %d cannot run, on ours passed %d of those %d", whose, of[whose], passed[whose], of[whose] - passed[whose], both[whose], passed[whose])
	}
	for (i = 1; i <= bad; i++)
		print "    FAILED  " wrong[i]
	print text[1] "\n" text[2]
	exit bad > 0
}
