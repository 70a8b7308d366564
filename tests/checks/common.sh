# SPDX-License-Identifier: Apache-2.0
# Sourced by the checks. Options of each: [--root DIR] (the sources; default: this tree), [--build DIR] (a release build
# of them, default ROOT/build/release), [-j N]. A check prints what is wrong, a line each, and exits 1; silent otherwise.
set -u -o pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=
jobs=$(nproc)
while [[ $# -gt 0 ]]; do
    case $1 in
        --root) root=$(cd "$2" && pwd) || exit 2; shift ;;
        --build) build=$(realpath "$2"); shift ;;
        -j) jobs=$2; shift ;;
        -h | --help) sed -n '3,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "${0##*/}: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
build=${build:-$root/build/release}
cd "$root" || exit 2

# Files of the project (never of a build), sorted, by the endings given: sources c h.
sources() {
    local names=() ending
    for ending; do
        names+=(-o -name "*.$ending")
    done
    find engine include replication tests tools wal -type f \( -false "${names[@]}" \) | sort
}

faults=0
fault() {
    echo "$*"
    faults=$((faults + 1))
}
finish() {
    [[ $faults == 0 ]]
    exit
}
