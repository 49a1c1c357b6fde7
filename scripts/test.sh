#!/usr/bin/env bash
# Runs steps of the tests, in the order given; the last line is the sum of all tests.
#   scripts/test.sh format lints unit e2e instructions
#   ONLY=word scripts/test.sh e2e          only tests whose name contains the word
# format: rustfmt · lints: clippy, cargo-deny if installed · unit: all crates, the development build, with sessions
# of real servers · e2e: the release build against real servers · instructions: what a row takes, counted by callgrind.
# Servers are installed into TRIBUTARY_CACHE where missing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo"

# Debug information of 400 dependencies takes a third of the build and is never looked at here.
export CARGO_PROFILE_DEV_DEBUG=${CARGO_PROFILE_DEV_DEBUG:-line-tables-only}
# A failed test tells its story in its message; a backtrace of the test's runtime hides it.
export RUST_LIB_BACKTRACE=${RUST_LIB_BACKTRACE:-0}

passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

main() {
    [ $# -gt 0 ] || { sed -n '2,7p' "${BASH_SOURCE[0]}"; exit 2; }
    find_tools
    local step begun status=0
    for step in "$@"; do
        loud "$step"
        begun=$SECONDS
        if "step_$step"; then
            loud "$step: ok after $((SECONDS - begun)) s"
        else
            loud "$step: FAILED after $((SECONDS - begun)) s"
            status=1
        fi
    done
    # A step that failed by other than its tests (it did not compile, say) must not look like a success.
    [ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
    summary | tee -a "${TRIBUTARY_TEST_SUM:-/dev/null}"
    return "$status"
}

summary() {
    if [ "$skipped" -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"; else echo "$passed passed, $failed failed"; fi
}

find_tools() {
    if ! there cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"; fi
    there cargo || fail "no Rust toolchain here; get one from https://rustup.rs"
    there cc || { say "installing a C compiler"; apt_install gcc libc6-dev; } || fail "install a C compiler (cc)"
}

step_format() { cargo fmt --all --check; }

step_lints() {
    cargo clippy --workspace --all-targets --locked --quiet -- -D warnings || return 1
    if [ -f deny.toml ] && there cargo-deny; then cargo deny --offline check licenses bans sources || return 1; fi
}

step_unit() {
    ./scripts/test-servers.sh postgres 14 15 16 17 18 || return 1
    # Some of them have sessions with real servers.
    cargo build --locked --quiet -p testkit --bin servers || return 1
    beside=$(target_folder)/debug/servers tests --workspace --exclude e2e --locked
}

step_e2e() {
    ./scripts/test-servers.sh || return 1
    local less_optimized=() crate
    for crate in lake store tributary; do less_optimized+=(--config "profile.release.package.$crate.opt-level=1"); done
    local release
    release=$(target_folder)/release
    # A second time for the kill points: three of our crates and nothing that they need, with less optimization, which takes most of the time.
    cargo build --release --locked --quiet -p tributary --features failpoints "${less_optimized[@]}" || return 1
    cp --force "$release/tributary" "$release/tributary-failpoints"
    cargo build --release --locked --quiet -p tributary || return 1
    # Of what the release is made is asked of the release itself.
    ./scripts/sbom.py --check "$release/tributary" || return 1
    TRIBUTARY_BIN=$release/tributary TRIBUTARY_FAILPOINTS_BIN=$release/tributary-failpoints
    export TRIBUTARY_BIN TRIBUTARY_FAILPOINTS_BIN
    # Two at a time: most of a test is waiting, but timing matters to some.
    STATUS_LEVEL=pass threads=2 tests -p e2e --locked
    local status=$?
    if [ ! -f "$TRIBUTARY_CACHE/ceph/.complete" ]; then loud "SKIP: nothing is known about radosgw, its packages could not be had"; fi
    if [ ! -x "$TRIBUTARY_CACHE/prometheus/usr/bin/promtool" ]; then loud "SKIP: nothing is known about alerts and dashboards, Prometheus could not be had"; fi
    if ! there chromium; then loud "SKIP: nobody looked at the status page, Chromium could not be had"; fi
    return "$status"
}

step_instructions() {
    if [ "$(uname -m)" != x86_64 ]; then
        skip "the bounds of instructions are those of x86_64"
        return 0
    fi
    if ! there valgrind && { say "installing valgrind"; ! apt_install valgrind; }; then
        skip "instructions are not counted without valgrind"
        return 0
    fi
    # Together with the daemon, so that its crates have the features that they have there; of it nothing is built.
    cargo build --release --locked --quiet -p tributary -p instructions --bin instructions || return 1
    local status=0
    ./bench/instructions/check.sh "$(target_folder)/release/instructions" | tee "$log" || status=1
    passed=$((passed + $(grep -c ': ok$' "$log" || true)))
    failed=$((failed + $(grep -c ': FAILED$' "$log" || true)))
    return "$status"
}

skip() {
    loud "SKIP: $1"
    skipped=$((skipped + 1))
}

target_folder() { cargo metadata --format-version 1 --no-deps --locked | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'; }

# Runs tests with nextest if it is there, and adds to the sum. `threads` limits how many run at once; `beside` is a command that runs the
# command after it.
tests() {
    local status=0
    if there cargo-nextest; then
        ${beside:+"$beside"} cargo nextest run "$@" --no-fail-fast ${threads:+-j "$threads"} ${ONLY:+"$ONLY"} --status-level "${STATUS_LEVEL:-slow}" --cargo-quiet 2>&1 | tee "$log" || status=1
        count_nextest
    else
        ${beside:+"$beside"} cargo test "$@" --no-fail-fast --quiet -- ${threads:+--test-threads "$threads"} ${ONLY:+"$ONLY"} 2>&1 | tee "$log" || status=1
        count_libtest
    fi
    return "$status"
}

# `Summary [ 1.2s] 10 tests run: 8 passed (1 slow), 1 failed, 1 timed out, 2 skipped`
count_nextest() {
    local line
    line=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E 'Summary \[.*tests? run:' | tail -1 || true)
    passed=$((passed + $(number_before passed "$line")))
    failed=$((failed + $(number_before failed "$line") + $(number_before 'timed out' "$line")))
    if [ -z "${ONLY:-}" ]; then skipped=$((skipped + $(number_before skipped "$line"))); fi
}

number_before() {
    local number
    number=$(sed -nE "s/.*[ ,]([0-9]+) $1.*/\1/p" <<<"$2")
    echo "${number:-0}"
}

# `test result: ok. 10 passed; 0 failed; 1 ignored; …`, a line for each binary
count_libtest() {
    local sums
    sums=$(awk '/^test result:/ { for (i = 1; i < NF; i++) { if ($(i+1) == "passed;") p += $i; if ($(i+1) == "failed;") f += $i; if ($(i+1) == "ignored;") s += $i } } END { print p+0, f+0, s+0 }' "$log")
    read -r p f s <<<"$sums"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

main "$@"
