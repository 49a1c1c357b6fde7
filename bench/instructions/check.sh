#!/usr/bin/env bash
# Counts the instructions that a row takes, and compares them with bounds.txt: a line each, and failure if one is above its bound.
#   bench/instructions/check.sh BINARY
#   UPDATE_BOUNDS=1 bench/instructions/check.sh BINARY     writes what it counts now
# Two runs differ by one pass over the same rows, so that their difference has no start in it. Unlike time it is the same on a busy machine; it
# moves with the toolchain and with dependencies, which is a reason to look at it, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
binary=$1
# In percent of the bound.
margin=5 far_below=10

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

main() {
    local status=0 shape step bound
    while read -r shape step bound; do
        case $shape in '' | '#'*) continue ;; esac
        compare "$shape" "$step" "$bound" || status=1
    done <bounds.txt
    if [ "${UPDATE_BOUNDS:-0}" = 1 ]; then
        { grep '^#' bounds.txt; cat "$scratch/counted"; } >"$scratch/bounds"
        cp "$scratch/bounds" bounds.txt
    fi
    return "$status"
}

compare() {
    local shape=$1 step=$2 bound=$3 rows first second each limit
    count "$shape" "$step" 1 & first=$!
    count "$shape" "$step" 2 & second=$!
    wait "$first" && wait "$second" || return 1
    rows=$(tail -1 "$scratch/1.rows")
    each=$((($(cat "$scratch/2") - $(cat "$scratch/1")) / rows))
    limit=$((bound * (100 + margin) / 100))
    echo "$shape $step $each" >>"$scratch/counted"
    if [ "${UPDATE_BOUNDS:-0}" = 1 ]; then
        echo "$shape $step: $each instructions a row, was $bound: ok"
    elif [ "$each" -gt "$limit" ]; then
        echo "$shape $step: $each instructions a row, more than $bound and $margin %: FAILED"
        return 1
    elif [ "$each" -lt $((bound * (100 - far_below) / 100)) ]; then
        echo "$shape $step: $each instructions a row, far below $bound (UPDATE_BOUNDS=1 make instructions keeps it so): ok"
    else
        echo "$shape $step: $each instructions a row, at most $limit: ok"
    fi
}

# Instructions of a whole run.
count() {
    local shape=$1 step=$2 passes=$3
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$shape" "$step" "$passes" >"$scratch/$passes.rows" 2>"$scratch/$passes.log" ||
        { cat "$scratch/$passes.log" >&2; return 1; }
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$scratch/$passes.log" >"$scratch/$passes"
    [ -s "$scratch/$passes" ] || { cat "$scratch/$passes.log" >&2; return 1; }
}

main
