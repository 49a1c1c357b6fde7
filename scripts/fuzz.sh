#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS (60). Needs cargo-fuzz; works on the stable compiler too.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo"

there cargo-fuzz || fail "cargo-fuzz is missing: cargo install cargo-fuzz --locked"
# The sanitizers' flags are unstable ones.
export RUSTC_BOOTSTRAP=1
for target in $(cargo fuzz list); do
    say "fuzzing $target"
    cargo fuzz run "$target" --target-dir "${FUZZ_TARGET_DIR:-$TRIBUTARY_CACHE/fuzz-target}" -- -max_total_time="${FUZZ_SECONDS:-60}" -rss_limit_mb=2048
done
