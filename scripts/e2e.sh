#!/usr/bin/env bash
# The end-to-end tests of the built release against real servers, which it installs where missing.
#   scripts/e2e.sh [FILTER…]
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo"
scripts/test-servers.sh
target=${CARGO_TARGET_DIR:-$repo/target}
export TRIBUTARY_BIN=${TRIBUTARY_BIN:-$target/release/tributary}
[ -x "$TRIBUTARY_BIN" ] || fail "$TRIBUTARY_BIN is not there: make release"
cargo test -p e2e --locked -- --test-threads="${TRIBUTARY_TEST_THREADS:-2}" "$@"
