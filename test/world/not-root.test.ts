import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { runProgram } from './held-world.ts';

const repository = join(import.meta.dirname, '../..');
const nobody = '65534';
/** The clone may lie where nobody else can enter, so it is bound to a place of the test's own, which goes with its mount namespace. */
const place = mkdtempSync(join(tmpdir(), 'edgepoint-not-root-'));
t.teardown(() => rmSync(place, { recursive: true }));
const script = `chmod 755 "$1" && mount --bind "$0" "$1" && cd "$1" && shift && exec setpriv --reuid=${nobody} --regid=${nobody} --clear-groups -- "$@"`;

/** Runs a program in the clone as nobody; `argv` names files from the clone's root. */
function runAsNobody(argv: readonly string[]): ReturnType<typeof runProgram> {
  return runProgram('unshare', ['--mount', 'sh', '-c', script, repository, place, ...argv]);
}

t.test('who is not root is told so in one sentence, with exit code 2', async (t) => {
  for (const entry of ['world.ts', 'images/host/main.ts', 'bench/main.ts']) {
    const ran = await runAsNobody(['sh', 'images/host/bootstrap.sh', entry]);
    t.equal(ran.exitCode, 2, entry);
    t.match(ran.stderr, /must run as root/, entry);
    t.equal(ran.stderr.trim().split('\n').length, 1, entry);
  }
});

t.test('a world started past the bootstrap refuses as well', async (t) => {
  const ran = await runAsNobody(['node_modules/.bin/bun', 'world.ts', 'up', '--port', '0']);
  t.equal(ran.exitCode, 2);
  t.match(ran.stderr, /must be started as root/);
});
