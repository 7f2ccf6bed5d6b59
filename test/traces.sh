#!/bin/sh
# Lists what tests could leave on the machine, one thing on each line: network namespaces, cgroups, loop devices, mounts,
# nftables tables, and processes of this clone that nobody waits for. What belongs to a world that is up is not listed.
# Usage: sh test/traces.sh
set -u
repository=$(cd "$(dirname "$0")/.." && pwd)

# A world is up when the process that its journal names first is alive.
alive=$(for journal in /run/edgepoint/*/journal; do
  [ -e "$journal" ] || continue
  pid=$(sed -n '1s/.*"pid":\([0-9]*\).*/\1/p' "$journal")
  [ -n "$pid" ] && [ -d "/proc/$pid" ] && basename "$(dirname "$journal")"
done)

{
  [ -d /run/netns ] && find /run/netns -mindepth 1 -printf 'netns %f\n'
  find /sys/fs/cgroup -maxdepth 3 -type d -name 'edgepoint-*' -printf 'cgroup %p\n'
  losetup --list --noheadings --output NAME,BACK-FILE 2>/dev/null | sed 's/^/loop /'
  awk '$5 ~ /edgepoint|\/netns\// { print "mount " $5 }' /proc/self/mountinfo
  nft list tables 2>/dev/null | sed 's/^/nft-/'
  # Orphans: their parent, a test, has ended.
  ps -eo pid=,ppid=,stat=,args= | awk -v here="$repository/" '$2 == 1 && $3 !~ /^Z/ && (index($0, here) || /nats-server|edgepoint-box/) { $2 = $3 = ""; print "process " $0 }'
} | {
  pattern=$(printf '%s\n' "$alive" | sed '/^$/d' | paste -sd '|' -)
  if [ -n "$pattern" ]; then grep -Ev "[-/ ]($pattern)([-/ ]|\$)"; else cat; fi
} | sort
