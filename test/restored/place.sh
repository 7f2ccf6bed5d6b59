#!/bin/bash
# The place of one test's edgepoint: a network namespace and a mount namespace (the caller has made both) with a /run of its own.
# Stands until its stdin ends, also because the test was killed, and then takes away everything that bears the world's name.
world=$1 folder=$2
mount -t tmpfs -o mode=0755 run /run || exit 1
ip link set lo up || exit 1

cgroups() { find /sys/fs/cgroup -maxdepth 2 -type d -name "edgepoint-$world"; }
processes() { cgroups | while read -r tree; do find "$tree" -name cgroup.procs -exec cat {} + 2>/dev/null; done | sort -u; }

take_away() {
  for _ in $(seq 500); do
    left=$(processes)
    [ -z "$left" ] && break
    # shellcheck disable=SC2086
    kill -9 $left 2>/dev/null
    sleep 0.01
  done
  awk -v folder="$folder/" 'index($5, folder) == 1 { print $5 }' /proc/self/mountinfo | tac | xargs -r -n 1 umount --lazy
  for _ in $(seq 500); do
    cgroups | while read -r tree; do find "$tree" -depth -type d -exec rmdir {} + 2>/dev/null; done
    [ -z "$(cgroups)" ] && break
    sleep 0.01
  done
  rm -rf --one-file-system "$folder"
}
trap take_away EXIT

# Version 1 keeps a tree for each controller; any one will do to find the daemons and what they started.
daemons=/sys/fs/cgroup/pids
[ -d "$daemons" ] || daemons=/sys/fs/cgroup
mkdir -p "$daemons/edgepoint-$world/daemons" || exit 1
echo "$daemons/edgepoint-$world/daemons/cgroup.procs"
cat >/dev/null
