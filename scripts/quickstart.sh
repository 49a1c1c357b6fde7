#!/bin/sh
# From a fresh machine to the proof: installs what is missing, builds the release, runs `tributary demo`.
# Arguments go to the demo: `scripts/quickstart.sh --keep --seconds 20`.
set -eu
cd "$(dirname "$0")/.."

POSTGRES_OLDEST=14

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
there() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: directly, or through sudo, which may ask for a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif there sudo; then
        sudo "$@"
    else
        fail "installing packages needs root or sudo; run this by hand, then start again: $*"
    fi
}

package_tool() {
    for tool in apt-get dnf apk brew; do
        if there "$tool"; then
            echo "$tool"
            return
        fi
    done
    echo none
}

# Versions of servers that have both programs that the demo needs, in the places where it looks for them.
servers() {
    {
        command -v postgres || true
        if there pg_config; then echo "$(pg_config --bindir 2>/dev/null)/postgres"; fi
        for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
            /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin; do
            echo "$bin/postgres"
        done
    } | while read -r postgres; do
        real=$(readlink -f "$postgres" 2>/dev/null || echo "$postgres")
        if [ -x "$real" ] && [ -x "$(dirname "$real")/initdb" ]; then
            "$real" --version | sed -n 's/.*(PostgreSQL) \([0-9]*\).*/\1/p'
        fi
    done
}

has_server() { servers | awk -v oldest="$POSTGRES_OLDEST" '$1 >= oldest { found = 1 } END { exit !found }'; }

apt_update() { as_root apt-get update -q || say "going on with the package lists that are there"; }
apt_install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }

# Debian's package makes a cluster of its own and starts it, unless it is told not to: the demo makes another.
install_server_apt() {
    apt_install postgresql-common
    conf=/etc/postgresql-common/createcluster.conf
    mark='create_main_cluster = false # tributary quickstart'
    echo "$mark" | as_root tee -a "$conf" >/dev/null
    status=0
    apt_install postgresql || status=$?
    as_root sed -i "\\|^$mark\$|d" "$conf"
    return "$status"
}

install_server_dnf() {
    # The default module stream of RHEL 9 and its rebuilds is older than logical replication needs here.
    as_root dnf module enable -y postgresql:16 >/dev/null 2>&1 || true
    as_root dnf install -y postgresql-server
}

install_server() {
    say "Installing a Postgres server from the system's packages"
    case $(package_tool) in
        apt-get) apt_update && install_server_apt ;;
        dnf) install_server_dnf ;;
        apk) as_root apk add postgresql ;;
        brew) brew install postgresql@17 ;;
        none) fail "install a Postgres server ($POSTGRES_OLDEST or later: postgres, initdb), then start again" ;;
    esac
    has_server || fail "the packages brought no Postgres server of version $POSTGRES_OLDEST or later; see https://www.postgresql.org/download/"
}

install_compiler() {
    say "Installing a C compiler"
    case $(package_tool) in
        apt-get) apt_update && apt_install gcc libc6-dev ;;
        dnf) as_root dnf install -y gcc ;;
        apk) as_root apk add build-base ;;
        brew) fail "install Apple's command line tools (xcode-select --install), then start again" ;;
        none) fail "install a C compiler (cc), then start again" ;;
    esac
}

find_cargo() {
    if ! there cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        export PATH
    fi
    there cargo || fail "no Rust toolchain here; get one from https://rustup.rs:
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
}

find_cargo
there cc || install_compiler
has_server || install_server

target=$(cargo metadata --format-version 1 --no-deps --locked | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
[ -n "$target" ] || fail "cargo names no target directory"
if [ ! -x "$target/release/tributary" ]; then
    say "Building the release (about 10 minutes the first time, on two cores)"
fi
cargo build --release --locked

exec "$target/release/tributary" demo "$@"
