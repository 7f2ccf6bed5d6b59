#!/bin/sh
# From a fresh clone to a running entry: npm packages, Bun, then `bun ENTRY ARGS...`.
# Usage: sh images/host/bootstrap.sh ENTRY ARGS...
# POSIX sh, because nothing else is certain on a fresh Debian machine but Node 20, npm and git.
set -eu

repository=$(cd "$(dirname "$0")/../.." && pwd)
caller=$PWD
cd "$repository"

entry=${1:?usage: bootstrap.sh ENTRY ARGS...}
shift

# The providers' command line is for people without root; everything else makes namespaces and mounts.
case $entry in
  conduit/cli/*) needs_root=no ;;
  *) needs_root=yes ;;
esac
if [ "$needs_root" = yes ] && [ "$(id -u)" != 0 ]; then
  echo "edgepoint: $entry makes network namespaces, mounts and snapshots, so it must run as root: try again with sudo." >&2
  exit 2
fi

node_major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/') || node_major=
if [ "${node_major:-0}" -lt 20 ]; then
  echo "edgepoint: Node 20 or newer is needed (found: $(node --version 2>/dev/null || echo none)). Install it, then try again." >&2
  exit 2
fi

bun=node_modules/.bin/bun

install_packages() {
  echo "edgepoint: installing the npm packages of package-lock.json (a minute or two the first time) ..." >&2
  attempt=1
  until npm ci --no-audit --no-fund --loglevel=error >.edgepoint/npm-ci.log 2>&1; do
    if grep -q EUSAGE .edgepoint/npm-ci.log; then
      echo "edgepoint: package-lock.json does not fit package.json, so nothing was installed:" >&2
      grep -E 'Missing:|Invalid:' .edgepoint/npm-ci.log | head -n 10 >&2
      exit 1
    fi
    tail -n 15 .edgepoint/npm-ci.log >&2
    if [ "$attempt" -ge 3 ]; then
      echo "edgepoint: npm ci failed three times; its messages are above. Is the npm registry reachable from here (npm ping)?" >&2
      exit 1
    fi
    attempt=$((attempt + 1))
    echo "edgepoint: npm ci failed, trying again ..." >&2
    sleep $((attempt * 2))
  done
}

# npm 11 does not run the postinstall of packages that it was not told to trust, and bun's fetches its executable.
install_bun() {
  "$bun" --version >/dev/null 2>&1 && return 0
  echo "edgepoint: installing Bun from the npm registry ..." >&2
  node node_modules/bun/install.js >&2 || true
  if ! "$bun" --version >/dev/null 2>&1; then
    echo "edgepoint: Bun does not run after its installation. Remove node_modules and try again; its own message follows." >&2
    "$bun" --version >&2 || true
    exit 1
  fi
}

ready() {
  node images/host/npm-packages.mjs 2>/dev/null && "$bun" --version >/dev/null 2>&1
}

if ! ready; then
  # Two set-ups of one clone at once wait for each other; the second then finds everything done.
  mkdir -p .edgepoint
  exec 9>.edgepoint/bootstrap.lock
  if command -v flock >/dev/null 2>&1; then
    flock -n 9 || { echo "edgepoint: another set-up of this clone is at work, waiting for it ..." >&2; flock 9; }
  fi
  node images/host/npm-packages.mjs || install_packages
  install_bun
  exec 9>&-
fi

# Paths that a person names are relative to where the person is; npm itself starts scripts in the repository.
entry=$repository/$entry
bun=$repository/$bun
cd "${INIT_CWD:-$caller}" 2>/dev/null || cd "$repository"
exec "$bun" "$entry" "$@"
