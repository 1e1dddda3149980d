#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Prints the rows of docs/proofs.md's table, from the harnesses.
cd "$(dirname "$0")"
awk -F': ' '
	function rest() { sub(/^[^:]*:[ ]?/, ""); gsub(/\|/, "\\|"); return $0 }
	function row() { if (name != "") printf "| `%s` | %s | %s | `shim/%s` | %d |\n", name, text, bounds, source, n; name = "" }
	/^ \* PROOF / { row(); name = $1; sub(/^ \* PROOF /, "", name); text = rest(); n = 0; source = "" }
	/^ \* BOUNDS:/ { bounds = rest() }
	/^ \* MUTATION / { of = $1; sub(/^ \* MUTATION /, "", of); if (index(source, of) == 0) source = source (source == "" ? "" : "`, `shim/") of; n++ }
	END { row() }
' check_proofs.c pt_proofs.c pt_zap_proofs.c mem_proofs.c run_proofs.c vmx_setup_proofs.c vmx_proofs.c svm_setup_proofs.c svm_proofs.c
