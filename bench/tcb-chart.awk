# SPDX-License-Identifier: GPL-2.0-or-later
# An SVG chart of code lines by privilege, from bench/tcb.sh's files. -v release= -v components= -v groups=
function text(x, y, size, anchor, weight, what) {
	gsub(/&/, "\\&amp;", what)
	printf "<text x=\"%d\" y=\"%d\" font-size=\"%d\" text-anchor=\"%s\" font-weight=\"%s\">%s</text>\n", x, y, size, anchor, weight, what
}
function box(x, y, width, height, colour) {
	printf "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", x, y, width < 1 ? 1 : width, height, colour
}
function thousands(n) { return n >= 1000 ? int(n / 1000) "," sprintf("%03d", n % 1000) : n }
# One bar of one colour, with its label above and its length beside it.
function bar(y, label, lines, colour) {
	text(left, y - 7, 14, "start", "normal", label)
	box(left, y, lines * scale, 22, colour)
	text(left + lines * scale + 8, y + 16, 14, "start", "bold", thousands(lines))
}
BEGIN {
	left = 20; width = 760; y = 78
	while ((getline < components) > 0) { split($0, part, "|"); kvm[part[1]] += part[2]; total += part[2] }
	while ((getline < groups) > 0) umbra[$1] += $2
	most = total > umbra["sandboxed"] ? total : umbra["sandboxed"]
	scale = (width - 70) / most
	count = split("#7f1d1d #991b1b #b91c1c #dc2626 #ea580c #f97316 #fb923c #fdba74 #fed7aa", colour, " ")
	print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"" (total ? 395 : 245) "\" font-family=\"sans-serif\" fill=\"#222\">"
	print "<!-- SPDX-License-Identifier: GPL-2.0-or-later. Made by bench/tcb.sh -->"
	print "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
	text(left, 30, 18, "start", "bold", "Code lines by privilege (Linux " release ", cloc)")
	if (total) {
		text(left, y - 7, 14, "start", "normal", "In the kernel with KVM (arch/x86/kvm, virt/kvm)")
		x = left
		for (n = 1; n <= count; n++) {
			best = ""
			for (name in kvm) if (best == "" || kvm[name] > kvm[best]) best = name
			if (best == "") break
			box(x, y, kvm[best] * scale - 1, 22, colour[n])
			# The legend: three columns.
			column = left + (n - 1) % 3 * 260; row = y + 48 + int((n - 1) / 3) * 22
			box(column, row - 11, 12, 12, colour[n])
			text(column + 18, row, 13, "start", "normal", best " " thousands(kvm[best]))
			x += kvm[best] * scale
			delete kvm[best]
		}
		text(x + 8, y + 16, 14, "start", "bold", thousands(total))
		y += 150
	}
	bar(y, "In the kernel with Umbra (shim/)", umbra["kernel"], "#b91c1c")
	bar(y + 60, "In a sandboxed process, one for each guest (shadow/, most of runtime/)", umbra["sandboxed"], "#2563eb")
	bar(y + 120, "In the VMM: the preloaded library (qemu-glue/)", umbra["vmm"], "#64748b")
	print "</svg>"
}
