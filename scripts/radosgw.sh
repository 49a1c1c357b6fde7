#!/usr/bin/env bash
# One-node Ceph in memory with radosgw, Ceph's S3 server, on loopback; runs in the foreground until it is stopped.
#   scripts/radosgw.sh FOLDER S3_PORT MONITOR_PORT
# The packages are those that test-servers.sh unpacked. Keys: test / testtesttest. FOLDER/ready exists once S3 answers.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# = 3 ] || { sed -n '2,4p' "${BASH_SOURCE[0]}"; exit 2; }
folder=$1 port=$2 monitor_port=$3
root="$TRIBUTARY_CACHE/ceph/root"
[ -x "$root/usr/bin/radosgw" ] || fail "Ceph is not in $TRIBUTARY_CACHE: run scripts/test-servers.sh"
libraries=$(dirname "$(find "$root/usr/lib" -name librados.so.2 | head -1)")
export LD_LIBRARY_PATH=$libraries:$root/lib/$(basename "$libraries"):$libraries/ceph:$root/usr/lib/ceph
export PATH=$root/usr/bin:$PATH PYTHONPATH=$root/usr/lib/python3/dist-packages
conf="$folder/ceph.conf"
monitor="v1:127.0.0.1:$monitor_port/0"

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
trap 'exit 0' TERM INT

main() {
    rm -rf "$folder"
    mkdir -p "$folder"/{mon,osd,rgw,log,run}
    configuration >"$conf"
    keys
    ceph-mon -c "$conf" -i a --mkfs --public-addrv "[$monitor]" --keyring "$folder/keyring"
    daemon mon ceph-mon -i a --public-addrv "[$monitor]" -f
    until ceph mon stat >/dev/null 2>&1; do sleep 0.5; done
    local uuid
    uuid=$(cat /proc/sys/kernel/random/uuid)
    ceph osd new "$uuid" 0 >/dev/null
    ceph auth import -i "$folder/keyring" >/dev/null 2>&1
    ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$uuid" 2>/dev/null
    daemon osd ceph-osd -i 0 -f
    daemon rgw radosgw -n client.admin -f
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.5; done
    timeout 60 radosgw-admin -c "$conf" user create --uid=test --display-name=test --access-key=test --secret-key=testtesttest >/dev/null
    touch "$folder/ready"
    wait
}

# A child that dies with this script, however it dies.
daemon() {
    local name=$1
    shift
    setpriv --pdeathsig KILL -- "$1" -c "$conf" "${@:2}" >"$folder/log/$name.out" 2>&1 &
}

ceph() { timeout 30 /usr/bin/python3 "$root/usr/bin/ceph" -c "$conf" "$@"; }

keys() {
    ceph-authtool --create-keyring "$folder/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
    ceph-authtool "$folder/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
    ceph-authtool "$folder/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *' >/dev/null
}

configuration() {
    cat <<CONF
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = $monitor
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
keyring = $folder/keyring
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
mon max pg per osd = 1000
mon allow pool size one = true
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
run dir = $folder/run
admin socket = $folder/run/\$name.\$pid.asok
log file = $folder/log/\$name.log
plugin dir = $libraries/ceph
erasure code dir = $libraries/ceph/erasure-code
osd class dir = $libraries/rados-classes
mon data avail crit = 0
osd objectstore = memstore
memstore device bytes = 2147483648
osd data = $folder/osd
mon data = $folder/mon
rgw frontends = beast endpoint=127.0.0.1:$port
rgw data = $folder/rgw
CONF
}

main
