# shellcheck shell=bash
# Sourced by the scripts beside it: where things are kept, and how packages are had.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
loud() { printf '\n=== %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
there() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

# Runs a command as root, or says what to type.
as_root() {
    if is_root; then "$@"
    elif there sudo && sudo -n true 2>/dev/null; then sudo "$@"
    else
        printf 'error: installing packages needs root; run this by hand, then start again: %s\n' "$*" >&2
        return 1
    fi
}

# Whether every user can reach a folder (or its first ancestor that exists).
open_to_all() {
    local path=$1
    while [ "$path" != / ]; do
        if [ -e "$path" ] && [ $((0$(stat -L -c %a "$path") & 1)) = 0 ]; then return 1; fi
        path=$(dirname "$path")
    done
}

# Postgres refuses to run as root, so root's servers run as user `postgres`: they must reach the cache, which they
# cannot inside root's home folder.
default_cache() {
    local home=${XDG_CACHE_HOME:-$HOME/.cache}/tributary
    if is_root && ! open_to_all "$home"; then echo /var/cache/tributary; else echo "$home"; fi
}

: "${TRIBUTARY_CACHE:=$(default_cache)}"
export TRIBUTARY_CACHE

# Debian packages, quietly; the package lists are fetched only when they do not know a name.
apt_knows() {
    local policy
    policy=$(apt-cache policy "$1" 2>/dev/null || true)
    [[ $policy =~ Candidate:\ [^\(] ]]
}
apt_lists() {
    there apt-get || return 1
    local name
    for name in "$@"; do
        apt_knows "$name" || { as_root apt-get update -qq >/dev/null; break; }
    done
    for name in "$@"; do apt_knows "$name" || return 1; done
}
apt_install() {
    apt_lists "$@" || return 1
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
