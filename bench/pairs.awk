# SPDX-License-Identifier: GPL-2.0-or-later
# Table on stdout and JSON from bench/items-pairs and lines "ROUND stock|umbra CPUS ITEM NANOSECONDS [MEDIAN]".
# The nth figure of each is of round n. A round's ratio is Umbra's figure by stock KVM's; the median of the rounds counts. A figure that
# is missing is an error, unless only a part was to be measured.

FNR == 1 { file++ }
/^#/ || NF == 0 { next }
file == 1 {
	n++
	id[n] = $1 " " $2
	cpus[n] = $1
	name[n] = $2
	sub(/^[^ ]+ [^ ]+ /, "")
	title[n] = $0
	next
}
{
	r = ++seen[$2, $3 " " $4]
	value[r, $2, $3 " " $4] = $5 + 0
	middle[r, $2, $3 " " $4] = (NF > 5 ? $6 : $5) + 0
}

function sort(list, count,    i, j, x)
{
	for (i = 2; i <= count; i++) {
		x = list[i]
		for (j = i - 1; j > 0 && list[j] > x; j--)
			list[j + 1] = list[j]
		list[j + 1] = x
	}
}
function median(list, count)
{
	sort(list, count)
	return count % 2 ? list[(count + 1) / 2] : (list[count / 2] + list[count / 2 + 1]) / 2
}
function verdict(met)
{
	targets++
	mets += met
	return met ? "met" : "MISSED"
}
function row(t, stock, umbra, ratio, spread, m, v) { printf "%-42s %11s %11s %6s %11s %7s  %s\n", t, stock, umbra, ratio, spread, m, v }
function mean_row(t, logs, count, limit) { row(t, "", "", sprintf("%.2f", exp(logs / count)), "", "", limit ? verdict(exp(logs / count) <= limit) : "") }

END {
	each = 1.5
	mean = 1.15
	printf "{\n  \"kernel\": \"%s\", \"commit\": \"%s\", \"append\": \"%s\",\n  \"unit\": \"ns\",\n  \"items\": [\n", kernel, commit, append >json
	print ""
	row("microseconds, median of the rounds", "stock KVM", "Umbra", "ratio", "spread", "medians", "")
	for (i = 1; i <= n; i++) {
		rounds = seen["stock", id[i]]
		if (seen["umbra", id[i]] != rounds || !rounds) {
			if (part && !rounds)
				continue
			printf "bench: %s, %d vCPU(s): %d figures of stock KVM, %d of Umbra\n", name[i], cpus[i], rounds, seen["umbra", id[i]] >"/dev/stderr"
			missing = 1
			continue
		}
		most = rounds > most ? rounds : most
		for (r = 1; r <= rounds; r++) {
			s[r] = value[r, "stock", id[i]]
			u[r] = value[r, "umbra", id[i]]
			if (s[r] <= 0 || u[r] <= 0) {
				printf "bench: no figure for %s, %d vCPU(s), round %d\n", name[i], cpus[i], r >"/dev/stderr"
				missing = 1
				break
			}
			ratios[r] = u[r] / s[r]
			others[r] = middle[r, "umbra", id[i]] / middle[r, "stock", id[i]]
		}
		if (r <= rounds)
			continue
		ratio = median(ratios, rounds)
		logs[cpus[i] > 0] += log(ratio)
		counted[cpus[i] > 0]++
		if (ratio > worst) {
			worst = ratio
			worst_title = title[i] (cpus[i] ? " (" cpus[i] " vCPU)" : "")
		}
		stock = median(s, rounds)
		umbra = median(u, rounds)
		v = verdict(ratio <= each)
		row(title[i], sprintf("%.1f", stock / 1000), sprintf("%.1f", umbra / 1000), sprintf("%.2f", ratio),
			sprintf("%.2f-%.2f", ratios[1], ratios[rounds]), sprintf("%.2f", median(others, rounds)), v)
		printf "    {\"item\": \"%s\", \"cpus\": %d, \"title\": \"%s\", \"rounds\": %d, \"stock\": %.1f, \"umbra\": %.1f, \"ratio\": %.4f, \"least_ratio\": %.4f, \"greatest_ratio\": %.4f, \"target\": %.2f, \"met\": %s},\n", \
			name[i], cpus[i], title[i], rounds, stock, umbra, ratio, ratios[1], ratios[rounds], each, v == "met" ? "true" : "false" >json
	}
	if (missing) {
		close(json)
		print "bench: figures are missing" >"/dev/stderr"
		system("rm -f \"" json "\"")
		exit 1
	}
	if (!counted[0] + !counted[1] == 2)
		exit 1
	all = exp((logs[0] + logs[1]) / (counted[0] + counted[1]))
	print ""
	if (counted[0])
		mean_row("geometric mean: exits alone", logs[0], counted[0])
	if (counted[1])
		mean_row("geometric mean: Linux guests", logs[1], counted[1])
	mean_row("geometric mean: all", logs[0] + logs[1], counted[0] + counted[1], mean)
	row("worst: " worst_title, "", "", sprintf("%.2f", worst), "", "", "")
	printf "    {\"item\": \"geometric_mean\", \"cpus\": null, \"title\": \"geometric mean\", \"stock\": null, \"umbra\": null, \"ratio\": %.4f, \"target\": %.2f, \"met\": %s}\n  ]\n}\n", \
		all, mean, all <= mean ? "true" : "false" >json
	close(json)
	printf "Limits: %.2f an item, %.2f the geometric mean. A figure is the least of its batches; \"medians\": the ratio of their medians.\n", each, mean
	print "Rounds: " most ". JSON: " json
	printf "bench: %d of %d targets met\n", mets, targets
	exit strict && mets < targets
}
