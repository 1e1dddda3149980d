# SPDX-License-Identifier: GPL-2.0-or-later
# docs/abi.md from shim/umbra_abi.h:  awk -f docs/abi.awk shim/umbra_abi.h >docs/abi.md
# The part `headers` of tests/run.sh holds the file against the header.

# In code type nothing is to be escaped but the column mark.
function code(text) {
	gsub(/\|/, "\\|", text)
	gsub(/[ \t]+/, " ", text)
	gsub(/^ | $/, "", text)
	return text
}
function cell(text) {
	gsub(/\|/, "\\|", text)
	gsub(/</, "\\&lt;", text)
	gsub(/[ \t]+/, " ", text)
	gsub(/^ | $/, "", text)
	return text
}
# Names of the ABI in code type.
function names(text,   out, at) {
	out = ""
	while ((at = match(text, /UMBRA_[A-Z0-9_]+(\.\.|\*)?|struct umbra_[a-z]+/))) {
		out = out substr(text, 1, at - 1) "`" substr(text, at, RLENGTH) "`"
		text = substr(text, at + RLENGTH)
	}
	return out text
}
function table(head) {
	if (open == head)
		return
	table_end()
	print "\n" head
	gsub(/[^|]+/, " --- ", head)
	print head
	open = saved
}
function table_end() { open = "" }

# A comment that stands alone: prose, with the errnos in it as a list.
function prose(text,   n, i, line, part, started, item) {
	table_end()
	n = split(text, part, "\n")
	print ""
	for (i = 1; i <= n; i++) {
		line = part[i]
		sub(/^[ \t]*\*?[ \t]?/, "", line)
		gsub(/</, "\\&lt;", line)
		if (line ~ /^ *E[A-Z]+(,| |$)/) {
			if (!item) print ""
			item = 1
			sub(/^ */, "", line)
			if (line ~ /^E[A-Z]+   *[^ ]/) {
				match(line, /^E[A-Z]+/)
				print "* `" substr(line, 1, RLENGTH) "` " names(cell(substr(line, RLENGTH + 1)))
			} else
				print "* " line
		} else if (item && line ~ /^   /) {
			print "  " names(cell(line))
		} else {
			if (item) print ""
			item = 0
			print names(line)
		}
	}
}

{ source = source $0 "\n" }

END {
	gsub(/\\\n[ \t]*/, "", source)
	count = split(source, line, "\n")
	print "# The shim's ABI\n"
	print "Made from `shim/umbra_abi.h` by `docs/abi.awk`: do not edit. Changes: [abi-changes.md](abi-changes.md)."
	constants = "| constant | value | meaning |"
	fields = "| field | type | meaning |"
	for (i = 1; i <= count; i++) {
		text = line[i]
		if (text ~ /SPDX|^#(ifndef|include|endif)|^#define UMBRA_ABI_H/)
			continue
		if (text ~ /^[ \t]*\/\*/) {
			comment = text
			while (comment !~ /\*\//)
				comment = comment "\n" line[++i]
			sub(/^[ \t]*\/\*+[ \t]*\n?/, "", comment)
			sub(/[ \t]*\n?[ \t]*\*\/.*$/, "", comment)
			if (comment ~ /^---- /) {
				gsub(/ ?---- ?/, "", comment)
				table_end()
				print "\n## " (comment ~ /^number/ ? "Calls" : comment)
			} else if (inside) {
				printf "| | | *%s* |\n", names(cell(comment))
			} else
				prose(comment)
			continue
		}
		meaning = ""
		if (at = index(text, "/*")) {
			meaning = substr(text, at + 2)
			while (meaning !~ /\*\//)
				meaning = meaning " " line[++i]
			sub(/[ \t]*\*\/.*/, "", meaning)
			text = substr(text, 1, at - 1)
		}
		if (text ~ /^#define /) {
			sub(/^#define /, "", text)
			match(text, /^[A-Z0-9_]+(\([a-z]+\))?/)
			saved = constants
			table(constants)
			printf "| `%s` | `%s` | %s |\n", substr(text, 1, RLENGTH), code(substr(text, RLENGTH + 1)), names(cell(meaning))
		} else if (text ~ /^struct umbra_[a-z_]+ \{/) {
			sub(/ \{.*/, "", text)
			table_end()
			print "\n### " text
			saved = fields
			table(fields)
			inside = 1
		} else if (text ~ /^};/) {
			inside = 0
			table_end()
		} else if (inside && text ~ /;/) {
			sub(/;.*/, "", text)
			gsub(/^[ \t]+|[ \t]+$/, "", text)
			match(text, /^(struct )?[a-z_0-9]+ /)
			type = substr(text, 1, RLENGTH - 1)
			n = split(substr(text, RLENGTH + 1), field, /, */)
			for (k = 1; k <= n; k++)
				printf "| `%s` | `%s` | %s |\n", field[k], type, names(cell(meaning))
		}
	}
}
