# SPDX-License-Identifier: GPL-2.0-or-later
# cves.tsv, the policies, then the console of svm-cve and the results of vmx-cve, if it ran: the table of what was run, and the shares
# over all rows in scope.
# A row of boundary P that was not run is argued by its class: faults of this class were put into the shadow, and all were contained.
BEGIN { FS = "\t" }

FILENAME ~ /\.policy$/ {
	sub(/#.*/, "")
	split($0, word, /[ \t]+/)
	role = FILENAME
	sub(/.*\//, "", role)
	sub(/\.policy$/, "", role)
	if (word[1] == "include")
		includes[role] = "common"
	else if (word[1] != "" && word[1] != "within" && !((role, word[1]) in allowed) && word[2] != "return") {
		allowed[role, word[1]] = 1
		calls[role] = calls[role] " " word[1]
		ncalls[role]++
	}
	next
}

FILENAME ~ /cves\.tsv$/ {
	if ($0 ~ /^#/ || $5 == "F")
		next
	ids[++rows] = $1
	component[$1] = $2
	class[$1] = $3
	attacker[$1] = $4
	boundary[$1] = $5
	how[$1] = $6
	place[$1] = $8
	next
}

{ sub(/\r$/, "") }
$1 == "ROW" {
	seen[$2] = 1
	observed[$2] = $10
	thread[$2] = $9
	contained[$2] = $11 == "contained"
	if ($2 ~ /^TAKEOVER/) {
		tries++
		if (contained[$2])
			stopped++
		trythreads[$9] = trythreads[$9] " " substr($2, length("TAKEOVER-" $3 "-") + 1)
	}
	next
}
/^sandbox before the attack: / { sandbox = $0 }
/^the witness: / { witness = $0 }
$1 == "TEST" {
	seen[$2] = 1
	contained[$2] = 1
	observed[$2] = "passes: " $3
}
# What vmx-cve found: its results.
/^ok cve\/CVE-[-0-9]+$/ && how[substr($0, 8)] == "vmx" {
	id = substr($0, 8)
	seen[id] = 1
	contained[id] = 1
	observed[id] = "passes: " place[id]
}
/^not ok cve\/CVE-[-0-9]+: failed:/ {
	id = $0
	sub(/^not ok cve\//, "", id)
	sub(/:.*/, "", id)
	seen[id] = 1
	observed[id] = $0
}

function before(a, b) { return index("PSGH", substr(a, 1, 1)) < index("PSGH", substr(b, 1, 1)) || (substr(a, 1, 1) == substr(b, 1, 1) && a < b) }

function line(name, b) {
	printf "%-24s %4d  %4d run: %4d contained;  %4d argued by class;  %4d neither   %5.1f %% contained when run, %5.1f %% with those argued\n", name,
		total[b], run[b], ok[b], argued[b], total[b] - ok[b] - argued[b], 100 * ok[b] / total[b], 100 * (ok[b] + argued[b]) / total[b]
}

END {
	for (i = 1; i <= rows; i++) {
		id = ids[i]
		if (!seen[id])
			continue
		key = boundary[id] " " class[id]
		if (!contained[id])
			class_bad[key]++
		else if (how[id] == "fault")
			class_ok[key]++
	}
	print "What was run (fault: the class re-created in the handler; replay: the real input; test: the module's own tests)"
	printf "%-16s %-9s %-14s %-8s %-3s %-6s %-18s %-8s %s\n", "id", "component", "class", "attacker", "B", "how", "place", "thread", "observed"
	for (i = 1; i <= rows; i++) {
		id = ids[i]
		b = boundary[id]
		key = b " " class[id]
		total[b]++
		total["all"]++
		total[key]++
		if (seen[id]) {
			run[b]++; run["all"]++; run[key]++
			if (contained[id]) {
				ok[b]++; ok["all"]++; ok[key]++
			}
			printf "%-16s %-9s %-14s %-8s %-3s %-6s %-18.18s %-8s %s%s\n", id, component[id], class[id], attacker[id], b, how[id],
				place[id], how[id] == "fault" ? thread[id] : "-", contained[id] ? "" : "NOT CONTAINED ", observed[id]
		} else if (class_ok[key] && !class_bad[key]) {
			argued[b]++; argued["all"]++; argued[key]++
		}
	}
	print ""
	print "A thread that died could still have called, until then (what its policy lets through):"
	for (role in ncalls)
		if (role == "control" || role == "event" || role == "vcpu")
			printf "  %-8s %d:%s%s\n", role, ncalls[role] + ncalls[includes[role]], calls[role], calls[includes[role]]
	if (sandbox != "")
		print sandbox
	if (tries) {
		printf "\nCode that took a thread over: %d of %d forbidden calls ended the process, by name:\n", stopped, tries
		for (t in trythreads)
			printf "  %-8s%s\n", t, trythreads[t]
	}
	if (witness != "")
		print witness
	print "\nOver all rows in scope, by boundary (P sandboxed code, S the shim must enforce, G inside the guest, H speculation)"
	line("all", "all")
	n = split("P S G H", bs, " ")
	for (i = 1; i <= n; i++)
		line(bs[i], bs[i])
	print "\nBy class"
	for (key in total)
		if (key ~ / /)
			keys[++nkeys] = key
	for (i = 1; i <= nkeys; i++) {
		for (j = i; j > 1 && before(keys[j], keys[j - 1]); j--) {
			key = keys[j]
			keys[j] = keys[j - 1]
			keys[j - 1] = key
		}
	}
	for (i = 1; i <= nkeys; i++)
		line(keys[i], keys[i])
}
