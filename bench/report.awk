# SPDX-License-Identifier: GPL-2.0-or-later
# Table on stdout and JSON from bench/items and lines "CPUS stock|umbra ITEM VALUE [MEDIAN]": the least value counts.
# A figure that is missing is an error.

FNR == 1 { file++ }
/^#/ || NF == 0 { next }
file == 1 {
	if (($1 == 2 && !smp) || ($2 ~ /^boot_/ && !boot))
		next
	n++
	id[n] = $1 ":" $2
	target[n] = $3
	sub(/^[^ ]+ [^ ]+ [^ ]+ /, "")
	title[n] = $0
	next
}
{
	key = $1 ":" $2 ":" $3
	if (!(key in value) || $4 + 0 < value[key])
		value[key] = $4 + 0
	if ($3 ~ /^memory_/ && !($3 in seen)) {
		seen[$3] = 1
		memory[++memories] = $3
	}
}

function get(cpus_item, on,    part, key)
{
	split(cpus_item, part, ":")
	key = part[1] ":" on ":" part[2]
	if (!(key in value)) {
		print "bench: no figure for " part[2] " on " on ", " part[1] " CPU(s)" >"/dev/stderr"
		missing = 1
		return 0
	}
	return value[key]
}
function verdict(met)
{
	targets++
	mets += met
	return met ? "met" : "MISSED"
}
function row(t, stock, umbra, ratio, tgt, v) { printf "%-42s %14s %14s %8s %8s  %s\n", t, stock, umbra, ratio, tgt, v }

END {
	printf "{\n  \"kernel\": \"%s\", \"commit\": \"%s\", \"append\": \"%s\",\n  \"unit\": \"instructions\",\n  \"items\": [\n", kernel, commit, append >json
	print ""
	row("instructions, least of all batches", "stock KVM", "Umbra", "ratio", "target", "")
	for (i = 1; i <= n; i++) {
		stock = get(id[i], "stock")
		umbra = get(id[i], "umbra")
		ratio = stock ? umbra / stock : 0
		ratios[id[i]] = ratio
		limit = target[i]
		below = 0
		if (limit ~ /:/) { # less than that item's ratio on one CPU, and within its target
			split(limit, part, ":")
			below = ratios["1:" part[2]]
			for (j = 1; j < i; j++)
				if (id[j] == limit)
					limit = below < target[j] ? below : target[j]
		}
		v = limit == "-" ? "" : verdict(below ? ratio < limit : ratio <= limit + 0)
		shown = limit == "-" ? "-" : sprintf(below ? "<%.2f" : "%.2f", limit)
		row(title[i], sprintf("%.0f", stock), sprintf("%.0f", umbra), sprintf("%.2f", ratio), shown, v)
		split(id[i], part, ":")
		printf "    {\"item\": \"%s\", \"cpus\": %d, \"title\": \"%s\", \"stock\": %.1f, \"umbra\": %.1f, \"ratio\": %.4f, \"target\": %s, \"met\": %s},\n", \
			part[2], part[1], title[i], stock, umbra, ratio, limit == "-" ? "null" : sprintf("%.4f", limit), \
			v == "" ? "null" : v == "met" ? "true" : "false" >json
	}

	for (i = 1; i <= memories; i++) {
		split(memory[i], part, "_")
		kib = value["1:umbra:" memory[i]]
		if (memory[i] !~ /_memfd_/ && memory[i] ~ /_private_kib$/)
			private[part[2]] += kib
		if (memory[i] !~ /_memfd_/ && memory[i] ~ /_pss_kib$/)
			pss[part[2]] += kib
	}
	if (!private["shadow"] || !("waiter" in private)) {
		print "bench: no figure for a shadow's memory" >"/dev/stderr"
		missing = 1
	}
	total = private["shadow"] + private["waiter"]
	v = verdict(total <= 4096)
	row("private memory of a shadow, KiB", "-", sprintf("%d", total), "-", "4096", v)
	printf "    {\"item\": \"shadow_private_kib\", \"cpus\": 1, \"title\": \"private memory of a shadow and its waiter, KiB\", \"stock\": null, \"umbra\": %d, \"ratio\": null, \"target\": 4096, \"met\": %s}\n  ],\n", \
		total, v == "met" ? "true" : "false" >json

	print ""
	printf "A shadow's private memory while a Linux guest of 128 MiB runs: shadow %d KiB (PSS %d), its waiter %d KiB (PSS %d).\n", \
		private["shadow"], pss["shadow"], private["waiter"], pss["waiter"]
	print "Counted by mapping, shadow + waiter, private KiB; not counted: memfds (guest memory and run areas, shared with the VMM)"
	printf "  \"memory_kib\": {" >json
	for (i = 1; i <= memories; i++) {
		kib = value["1:umbra:" memory[i]]
		printf "%s\"%s\": %d", (i > 1 ? ", " : ""), substr(memory[i], 8), kib >json
		if (memory[i] ~ /_private_kib$/) {
			kind = memory[i]
			sub(/^memory_[a-z]*_/, "", kind)
			sub(/_private_kib$/, "", kind)
			if (!(kind in by))
				order[++kinds] = kind
			by[kind] += kib
		} else if (memory[i] ~ /_page_tables_kib$/)
			tables += kib
	}
	printf "}\n}\n" >json
	for (i = 1; i <= kinds; i++)
		printf "  %-12s %6d%s\n", order[i], by[order[i]], order[i] == "memfd" ? "  (not counted)" : ""
	printf "  %-12s %6d  (kernel memory, not counted)\n", "page tables", tables
	printf "Start-up time added: %d instructions to the VM, %d to the first vCPU.\n", \
		value["1:umbra:start_vm"] - value["1:stock:start_vm"], value["1:umbra:start_vcpu"] - value["1:stock:start_vcpu"]
	close(json)
	if (missing) {
		print "bench: figures are missing" >"/dev/stderr"
		system("rm -f \"" json "\"")
		exit 1
	}
	print "JSON: " json
	printf "bench: %d of %d targets met\n", mets, targets
	exit strict && mets < targets
}
