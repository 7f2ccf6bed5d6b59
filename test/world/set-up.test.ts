import { existsSync, lstatSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { bunPath, runProgram } from './held-world.ts';

const entry = join(import.meta.dirname, '../../images/host/main.ts');

interface Report {
  readonly tookMs: number;
  readonly made: readonly string[];
  readonly choices: Readonly<Record<string, string>>;
}

t.test('a set-up after the first makes nothing, takes no time and needs no network', async (t) => {
  const first = await runProgram(bunPath, [entry, '--json']);
  t.equal(first.exitCode, 0, first.stderr);
  // A namespace without any interface: whoever tried to fetch something would fail.
  const ran = await runProgram('unshare', ['--net', bunPath, entry, '--json']);
  t.equal(ran.exitCode, 0, ran.stderr);
  const report = JSON.parse(ran.stdout) as Report;
  t.same(report.made, []);
  t.ok(report.tookMs < 5_000, `${report.tookMs} ms`);
  t.match(report.choices['criu'], /dumped and restored|because/, 'says which criu was chosen, and why');
});

t.test('two set-ups at once wait for each other', async (t) => {
  const both = await Promise.all([runProgram(bunPath, [entry, '--json']), runProgram(bunPath, [entry, '--json'])]);
  t.same(both.map((ran) => ran.exitCode), [0, 0], both.map((ran) => ran.stderr).join('\n'));
});

t.test('whatever forbade services to start before the set-up does so after it', async (t) => {
  t.notOk(existsSync('/usr/sbin/policy-rc.d.edgepoint-saved'));
  if (existsSync('/usr/sbin/policy-rc.d')) t.ok(lstatSync('/usr/sbin/policy-rc.d').mode & 0o111);
});

t.test('an option it does not know is refused', async (t) => {
  t.match(await runProgram(bunPath, [entry, '--fast']), { exitCode: 2, stderr: /--fast is not an option/ });
});
