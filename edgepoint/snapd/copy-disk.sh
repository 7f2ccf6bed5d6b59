#!/bin/sh
# CRIU runs this at every step of a dump (criu(8), --action-script); at post-dump the instance still stands still,
# so its private disk and its memory are of one moment.
[ "$CRTOOLS_SCRIPT_ACTION" = post-dump ] || exit 0
exec cp -a --no-target-directory "$EDGEPOINT_UPPER" "$EDGEPOINT_DISK"
