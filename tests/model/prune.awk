# SPDX-License-Identifier: GPL-2.0-or-later
# Leaves out the static inline functions that nothing in a preprocessed file names, and then those that only these named: CBMC
# reads what is left of the kernel's headers several times faster.
function flush_chunk(   head) {
	if (chunk == "")
		return
	n++
	source[n] = chunk
	if (chunk ~ /(^|\n)(static|extern)[ \n].*inline/ && chunk ~ /\{/ && chunk !~ /^[^(]*=/) {
		head = chunk
		gsub(/(^|\n)#[^\n]*/, "", head)
		while (head ~ /__attribute__/) {
			if (!sub(/__attribute__ *\(\([^()]*(\([^()]*(\([^()]*\))*[^()]*\)[^()]*)*\)\)/, " ", head))
				break
		}
		if (head ~ /^[ \n]*static/ && match(head, /[A-Za-z_][A-Za-z_0-9]* *\(/)) {
			name[n] = substr(head, RSTART, RLENGTH - 1)
			sub(/ *$/, "", name[n])
		}
	}
	chunk = ""
}
# Adds by to the count of each identifier in a text.
function count_names(text, by,   at, word) {
	gsub(/(^|\n)#[^\n]*/, "", text)
	at = split(text, word, /[^A-Za-z_0-9]+/)
	for (; at > 0; at--)
		if (word[at] ~ /^[A-Za-z_]/)
			count[word[at]] += by
}
{
	chunk = chunk == "" ? $0 : chunk "\n" $0
	if ($0 ~ /^#/)
		next
	text = $0
	gsub(/"([^"\\]|\\.)*"/, "", text)
	gsub(/'([^'\\]|\\.)*'/, "", text)
	depth += gsub(/[{(]/, "", text)
	depth -= gsub(/[})]/, "", text)
	if (depth == 0 && ($0 ~ /;[ \t]*$/ || $0 ~ /\}[ \t]*$/))
		flush_chunk()
}
END {
	flush_chunk()
	for (i = 1; i <= n; i++)
		count_names(source[i], 1)
	do {
		dropped = 0
		for (i = 1; i <= n; i++)
			if (name[i] != "" && count[name[i]] == 1) {
				count_names(source[i], -1)
				name[i] = source[i] = ""
				dropped++
			}
	} while (dropped)
	for (i = 1; i <= n; i++)
		if (source[i] != "")
			print source[i]
}
