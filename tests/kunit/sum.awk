# SPDX-License-Identifier: GPL-2.0-only
# Counts the results of KUnit's nested KTAP: a suite has tests, a test may have
# one result a parameter, and only these count then.
#   awk -v expect="suite.test ..." -v counts=FILE -f sum.awk KTAP
# Prints a line a suite and every failure and skip; writes the number of tests
# passed, failed and skipped to FILE. Tests that are not expected do not count.
# One that did not run, a suite or test with another number of results than
# planned, or one that failed with none of its results, is a failure more.

function failed(what, why)
{
	fail[suite]++
	notes = notes "    FAILED  " what (why == "" ? "" : ": " why) "\n" diag
	diag = ""
}

function result(what, bad, why)
{
	if (why ~ /^SKIP/) {
		skip[suite]++
		notes = notes "    skipped " what ": " substr(why, 6) "\n"
	} else if (bad)
		failed(what, why)
	else
		pass[suite]++
	diag = ""
}

BEGIN {
	n = split(expect, names, " ")
	for (i = 1; i <= n; i++) {
		wanted[names[i]] = 1
		sub(/\..*/, "", names[i])
		suites[names[i]] = 1
	}
}

{ sub(/\r+$/, "") }
{ match($0, /^ */); depth = RLENGTH / 4; sub(/^ */, "") }

/^# Subtest: / {
	ran[depth] = bad[depth] = 0
	plan[depth] = -1
	if (depth == 1)
		suite = $3
	next
}
/^1\.\.[0-9]+$/ { plan[depth] = substr($0, 4) + 0; next }

/^(not )?ok [0-9]+/ {
	not_ok = $1 == "not"
	what = $0
	sub(/^(not )?ok [0-9]+ *(- *)?/, "", what)
	why = ""
	if (match(what, / *# */)) {
		why = substr(what, RSTART + RLENGTH)
		what = substr(what, 1, RSTART - 1)
	}
	ran[depth]++
	bad[depth] += not_ok
	if (depth == 2) {
		# Its test is named after its parameters.
		kept[ran[2]] = what
		kept_bad[ran[2]] = not_ok
		kept_why[ran[2]] = why
	} else if (depth == 1) {
		seen[suite "." what] = 1
		if ((suite "." what) in wanted) {
			for (i = 1; i <= ran[2]; i++)
				result(suite "." what " (" kept[i] ")", kept_bad[i], kept_why[i])
			if (!ran[2])
				result(suite "." what, not_ok, why)
			else if (plan[2] > 0 && plan[2] != ran[2])
				failed(suite "." what, "it planned " plan[2] " results and gave " ran[2])
			else if (not_ok && !bad[2])
				failed(suite "." what, "it failed with none of its results")
		}
		ran[2] = bad[2] = 0
		plan[2] = -1
	} else if (depth == 0) {
		suite = what
		if (suite in suites) {
			if (plan[1] < 0)
				failed(suite, "it printed no plan")
			else if (plan[1] != ran[1])
				failed(suite, "it planned " plan[1] " tests and ran " ran[1])
			else if (not_ok && !bad[1])
				failed(suite, "it failed with none of its tests")
			printf "  %-24s %3d passed%s%s\n%s", suite, pass[suite],
				fail[suite] ? ", " fail[suite] " FAILED" : "",
				skip[suite] ? ", " skip[suite] " skipped" : "", notes
		}
		ended[suite] = 1
		notes = diag = ""
		ran[1] = bad[1] = 0
		plan[1] = -1
	}
	next
}

/^# .*(EXPECTATION|ASSERTION) FAILED/ { diag = diag "            " $0 "\n" }

END {
	printf "%s", notes
	for (name in wanted) {
		suite = name
		sub(/\..*/, "", suite)
		if (!(name in seen)) {
			fail[suite]++
			print "    FAILED  " name ": it did not run"
		} else if (!(suite in ended) && !told[suite]++) {
			fail[suite]++
			print "    FAILED  " suite ": it did not end"
		}
	}
	for (suite in suites) {
		passed += pass[suite]
		failures += fail[suite]
		skipped += skip[suite]
	}
	print passed + 0, failures + 0, skipped + 0 > counts
}
