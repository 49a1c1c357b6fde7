#!/usr/bin/env bash
# Puts bugs in on purpose, one after the other, and wants the simulation to find each.
#   scripts/mutations.sh [NAME...]      all of scripts/mutations, or these
# Everything happens in a copy: nothing here is changed. SEEDS=1..500 says how many runs each bug may survive; the first build takes a while,
# each further one only what the bug touches.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo"

seeds=${SEEDS:-1..500}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$copy"
export CARGO_PROFILE_DEV_DEBUG=${CARGO_PROFILE_DEV_DEBUG:-line-tables-only}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$repo/target/mutations}

if [ $# -gt 0 ]; then names=("$@"); else
    names=()
    for patch in scripts/mutations/*.patch; do names+=("$(basename "$patch" .patch)"); done
fi
survived=0
for name in "${names[@]}"; do
    patch=$repo/scripts/mutations/$name.patch
    say "$name: $(head -1 "$patch")"
    (cd "$copy" && patch --quiet --strip 1 <"$patch") || fail "$patch does not apply any more: mend it"
    log=$copy/log
    if (cd "$copy" && cargo build --locked --quiet -p simulation --tests) >"$log" 2>&1; then
        if (cd "$copy" && TRIBUTARY_SEEDS=$seeds cargo test --locked --quiet -p simulation every_row) >"$log" 2>&1; then
            say "    SURVIVED the seeds $seeds"
            survived=$((survived + 1))
        else
            say "    found: $(grep -m 1 -E '^seed [0-9]+: ' "$log" | cut -c 1-160)"
        fi
    else
        cat "$log"
        fail "$patch does not compile"
    fi
    (cd "$copy" && patch --quiet --strip 1 --reverse <"$patch")
done
say "$((${#names[@]} - survived)) of ${#names[@]} were found"
[ "$survived" = 0 ]
