# SPDX-License-Identifier: GPL-2.0-or-later
# Stock KVM with a nested Linux: shows that the machine can virtualize. Ends with status 7.
. /testbed/lib.sh
stock_load || exit 1
stock_guest 60 microvm
exit 7
