# SPDX-License-Identifier: GPL-2.0-or-later
# The committed inputs: corpus/NAME.base64, one a line.

# corpus_unpack NAME: prints the folder with them
corpus_unpack() {
	local from=$fuzz/corpus/$1.base64 to=$build_root/fuzz-seeds/$1 n=0 line
	mkdir -p "$to"
	if [ -f "$from" ] && ! { [ -e "$to.done" ] && cmp -s "$from" "$to.done"; }; then
		rm -f "$to"/*
		while read -r line; do
			n=$((n + 1))
			base64 -d <<<"$line" >"$to/$n"
		done <"$from"
		cp "$from" "$to.done"
	fi
	echo "$to"
}

# corpus_pack NAME FOLDER BYTES: the short ones first, up to so many bytes of input
corpus_pack() {
	local size=0 bytes file
	find "$2" -type f -printf '%s %f %p\n' | sort -k 1n,2 | while read -r bytes _ file; do
		size=$((size + bytes))
		[ $size -le "$3" ] || break
		base64 -w 0 "$file"
		echo
	done >"$fuzz/corpus/$1.base64"
}
