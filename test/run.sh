#!/bin/sh
# The whole proof of a clone: set-up, static checks, the runtime, every test, and that nothing of it stays on the machine.
# The last line says `N passed, N failed`: assertions as tap counted them, and one for each check around them.
# Usage: sh test/run.sh [TEST FILES]      LONG=1 makes campaigns run their full count.
set -u
cd "$(dirname "$0")/.." || exit 1

if [ "$(id -u)" != 0 ]; then
  echo "edgepoint: the tests make network namespaces, mounts and snapshots, so they must run as root: try again with sudo." >&2
  echo '0 passed, 1 failed'
  exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# check NAME COMMAND...: one counted check, whose output is shown.
check() {
  name=$1
  shift
  echo "== $name"
  if "$@"; then
    passed=$((passed + 1))
  else
    echo "== FAILED: $name"
    failed=$((failed + 1))
  fi
}

verdict() {
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ]
  exit
}

# Things that tests made and did not remove; what vanishes within 20 s was only slow to go (a dying process, another's test).
nothing_left() {
  tries=0
  while :; do
    sh test/traces.sh | comm -13 "$work/before" - >"$work/new"
    [ -s "$work/new" ] || return 0
    tries=$((tries + 1))
    [ "$tries" -lt 20 ] || break
    sleep 1
  done
  echo 'these were not on the machine before the tests:'
  cat "$work/new"
  return 1
}

check 'set-up' sh images/host/bootstrap.sh images/host/main.ts --for-tests
if [ "$failed" != 0 ]; then verdict; fi
sh test/traces.sh >"$work/before"

check 'types, lint and layers' npm run --silent check
check 'the runtime is Bun' node_modules/.bin/bun test ./test/bun.smoke.ts

echo '== tests'
node test/tap-run.mjs "$work/counts" "$@"
read -r tap_passed tap_failed <"$work/counts" || { tap_passed=0; tap_failed=1; }
passed=$((passed + tap_passed))
failed=$((failed + tap_failed))

check 'nothing is left on the machine' nothing_left
verdict
