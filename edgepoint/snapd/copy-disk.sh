#!/bin/sh
# CRIU runs this at every step of a dump (criu(8), --action-script); at post-dump the instance still stands still,
# so its private disk and its memory are of one moment.
[ "$CRTOOLS_SCRIPT_ACTION" = post-dump ] || exit 0
cp -a --no-target-directory "$EDGEPOINT_UPPER" "$EDGEPOINT_DISK" || exit 1
# An instance that is to sleep ends when this has succeeded, so room to seal it is taken before: as much as it could need at most.
[ -n "$EDGEPOINT_RESERVE" ] || exit 0
bytes=$(du --summarize --block-size=1 "$EDGEPOINT_STAGING" | cut -f 1)
bytes=$((bytes + bytes / 64 + 262144))
why=$(LC_ALL=C fallocate --length "$bytes" "$EDGEPOINT_RESERVE" 2>&1) && exit 0
# A file system that cannot promise room without filling it.
case $why in *"not supported"*) head --bytes "$bytes" /dev/zero >"$EDGEPOINT_RESERVE" && exit 0 ;; esac
: >"$EDGEPOINT_STAGING/disk-full"
exit 1
