#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS (60), from the inputs of fuzz/corpus.tar.gz and those that earlier runs found. Needs cargo-fuzz;
# works on the stable compiler too. No input may make a target take 64 MB at once.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo"

there cargo-fuzz || fail "cargo-fuzz is missing: cargo install cargo-fuzz --locked"
# The sanitizers' flags are unstable ones.
export RUSTC_BOOTSTRAP=1
corpus="$TRIBUTARY_CACHE/fuzz-corpus"
mkdir -p "$corpus"
tar -xzf fuzz/corpus.tar.gz -C "$corpus"
for target in $(cargo fuzz list); do
    say "fuzzing $target"
    cargo fuzz run "$target" "$corpus/$target" --target-dir "${FUZZ_TARGET_DIR:-$TRIBUTARY_CACHE/fuzz-target}" -- \
        -max_total_time="${FUZZ_SECONDS:-60}" -max_len=4096 -malloc_limit_mb=64 -rss_limit_mb=2048
done
