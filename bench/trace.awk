# SPDX-License-Identifier: GPL-2.0-or-later
# Symbols ("ADDRESS NAME OBJECT", sorted), then the emulator's trace: one line an instruction. Takes the shortest round trip
# of the guest's loop and says how many instructions each function has, then in what order they ran.

function symbol(address,    low, high, middle)
{
	if (address in cache)
		return cache[address]
	low = 1
	high = symbols
	while (low < high) {
		middle = int((low + high + 1) / 2)
		if (("x" at[middle]) <= ("x" address))
			low = middle
		else
			high = middle - 1
	}
	return cache[address] = name[low]
}
function trip_end(    i)
{
	if (trips && (!best || length_now < best)) {
		best = length_now
		for (i = 1; i <= length_now; i++)
			kept[i] = now[i]
	}
	if (trips)
		all += length_now
	trips++
	length_now = 0
}

FNR == 1 { file++ }
file == 1 {
	symbols++
	at[symbols] = $1
	name[symbols] = $3 " " $2
	next
}
/^TRACE-END/ { file = 3 }
# Host and guest run kernels alike. The host's is where its image says: physical = virtual - 0xffffffff80000000.
boot && file == 2 && /^\([0-9]\) \[0x/ {
	split($3, address, ":")
	low = substr(address[2], 9)
	if (address[2] < "0000500000000000" || (low >= "80000000" && address[2] >= "ffffffff" && low < "c0000000" &&
	    sprintf("%s%s", index("89ab", substr(low, 1, 1)) - 1, substr(low, 2)) != substr($2, 8, 8)))
		kept[++best] = "guest code"
	else
		kept[++best] = symbol(address[2])
	next
}
/^\([0-9]\)\.\[[0-9]+\] \[/ {
	split($3, address, ":")
	where = address[2] < "0000000000400000" ? "guest code" : symbol(address[2])
	now[++length_now] = where
	if (where == "guest code" && /: dec r12 /)
		trip_end()
}
END {
	if (!best) {
		print "no round trip in the trace" >"/dev/stderr"
		exit 1
	}
	for (i = 1; i <= best; i++) {
		count[kept[i]]++
		split(kept[i], part, " ")
		object[part[1]]++
		if (kept[i] != last) {
			flow[++flows] = kept[i]
			last = kept[i]
		}
		run[flows]++
	}
	if (boot)
		printf "boot: %d samples of 100003 instructions\n\nby object\n", best
	else
		printf "round trip: %d instructions (shortest of %d, mean %.0f)\n\nby object\n", best, trips - 1, all / (trips - 1)
	for (o in object)
		printf "%7d %s\n", object[o], o | "sort -rn"
	close("sort -rn")
	print "\nby function"
	for (f in count)
		printf "%7d %s\n", count[f], f | "sort -rn"
	close("sort -rn")
	if (boot)
		exit 0
	print "\nin order"
	for (i = 1; i <= flows; i++)
		printf "%7d %s\n", run[i], flow[i]
}
