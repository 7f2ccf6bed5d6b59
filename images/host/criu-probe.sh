#!/bin/sh
# A real dump and a real restore of a process in namespaces of its own decide whether a criu works on this kernel:
# `criu check` passes with some that do neither. Exits 0 when the restored process goes on counting.
# Usage: unshare --pid --mount --net --fork --kill-child --mount-proc sh criu-probe.sh CRIU PROBE WORK
# The namespaces of the caller end with this script, and with them everything it made.
set -eu
criu=$1
probe=$2
work=$3

step() { echo "$1" >"$work/step"; }
started() { cut -d ' ' -f 1 "$work/root/counter"; }
counter() { sed 's/^[^ ]* *//' "$work/root/counter"; }
wait_for_more_than() {
  tries=0
  while now=$(counter); [ "${now:-0}" -le "$1" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || return 1
    sleep 0.01
  done
}

step 'preparing its namespaces'
mkdir -p "$work/root/proc" "$work/root/old" "$work/images"
: >"$work/root/counter"
cp "$probe" "$work/root/criu-probe"
# criu caches what it learns of the kernel only on a tmpfs; WORK therefore must not lie under /run.
mount -t tmpfs tmpfs /run
# criu tries TCP repair on the loopback device when it learns what the kernel can do.
ip link set lo up
mount --bind "$work/root" "$work/root"
# It shares the network namespace of this script, as instances share theirs with the criu that dumps them.
unshare --pid --ipc --uts --mount --fork "$probe" "$work/root" </dev/null >"$work/probe.log" 2>&1 &
step 'starting the probe process'
wait_for_more_than 3
pid=$(pgrep -P $! | head -n 1)

step 'dumping'
"$criu" dump -t "$pid" -D "$work/images" --root "$work/root" --manage-cgroups=ignore -v1 -o dump.log >"$work/criu.log" 2>&1
before=$(counter)
began=$(started)
wait || true

step 'restoring'
"$criu" restore -d -D "$work/images" --root "$work/root" --manage-cgroups=ignore --pidfile "$work/restored.pid" -v1 -o restore.log >>"$work/criu.log" 2>&1
step 'seeing the restored process go on'
wait_for_more_than "$before"
[ "$(started)" = "$began" ]
step 'done'
