#!/usr/bin/env bash
# Boots the small system that scripts/test-servers.sh keeps in the cache, with a systemd as PID 1, in namespaces of its own.
#   scripts/machine.sh FOLDER    FOLDER/share is /share there; runs until it is killed, and everything in it dies with it
# It shares the network, so that servers on loopback are reached, and nothing else: its disk is an overlay in memory.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

folder=$1
if [ "${2:-}" != inside ]; then
    exec unshare --mount --pid --fork --kill-child --uts --ipc --cgroup --propagation private "${BASH_SOURCE[0]}" "$folder" inside
fi

mkdir -p "$folder/share" "$folder/disk"
mount -t tmpfs -o mode=755 tmpfs "$folder/disk"
mkdir "$folder"/disk/{upper,work,root}
mount -t overlay -o "lowerdir=$TRIBUTARY_CACHE/machine,upperdir=$folder/disk/upper,workdir=$folder/disk/work" overlay "$folder/disk/root"
cd "$folder/disk/root"

mkdir -p share
mount --bind "$folder/share" share
mount -t proc proc proc
# No service there may turn a knob of the kernel that all share.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --rbind /sys sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx

# The kernel's audit is not this machine's; nobody signs in.
for unit in systemd-journald-audit.socket getty.target console-getty.service systemd-logind.service systemd-modules-load.service modprobe@.service apt-daily.timer apt-daily-upgrade.timer; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
echo machine >etc/hostname
: >etc/machine-id
cp /etc/resolv.conf etc/resolv.conf 2>/dev/null || true

pivot_root . mnt
umount -l /mnt
# As a systemd that booted a machine does: what it mounts for a service, its credentials for one, has to come to the service's own namespace.
mount --make-rshared /
exec env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --show-status=no
