import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { bunPath, holdWorld, runProgram } from './held-world.ts';
import type { Ended, HeldWorld } from './held-world.ts';
import { tracesOf } from './traces.ts';

const manifestOf = (state: 'template' | 'keep'): string => `app = "ledger"
command = ["node", "server.js"]
port = 3000
state = "${state}"

[[volume]]
name = "data"
path = "/data"
sizeMegabytes = 32

[scale]
idleSeconds = 1
`;
/** Rows are acknowledged when they are on the disk; what is asked for is how many there are. */
const server = `const fs = require('fs');
const path = '/data/rows'; let remembered = 0;
require('http').createServer((request, response) => {
  const [, what, bytes] = request.url.split('/');
  try {
    if (what === 'add') { const file = fs.openSync(path, 'a'); fs.writeSync(file, 'row\\n'); fs.fsyncSync(file); fs.closeSync(file); }
    if (what === 'noise') fs.writeFileSync('/data/noise-' + bytes, require('crypto').randomBytes(Number(bytes)));
    for (let piece = 65536; what === 'fill' && piece >= 1024; piece /= 2) try { for (;;) fs.appendFileSync('/data/noise-0', Buffer.alloc(piece, 'x'), { flush: true }); } catch (error) { if (piece === 1024) throw error; }
    if (what === 'remember') return response.end(String(remembered += 1));
    if (what === 'drop') fs.rmSync('/data/noise-' + bytes);
    response.end(String(fs.existsSync(path) ? fs.statSync(path).size / 4 : 0));
  } catch (error) { response.statusCode = 507; response.end(error.code); }
}).listen(3000);`;

interface Rig {
  readonly world: HeldWorld;
  conduit(args: readonly string[]): Promise<Ended>;
  /** Asks the app at the one edgepoint that has it. */
  ask(path: string): Promise<string>;
  readonly edgepoint: string;
}

async function openRig(t: Test, state: 'template' | 'keep'): Promise<Rig> {
  const home = mkdtempSync('/var/tmp/edgepoint-home-');
  t.teardown(() => rmSync(home, { recursive: true, force: true }));
  const app = join(home, 'app');
  mkdirSync(app);
  writeFileSync(join(app, 'edgepoint.toml'), manifestOf(state));
  writeFileSync(join(app, 'server.js'), server);
  const conduit = (args: readonly string[]) => runProgram('env', [`HOME=${home}`, bunPath, join(import.meta.dirname, '../../conduit/cli/main.ts'), ...args]);
  const world = await holdWorld();
  t.teardown(() => world.stop());
  const token = await world.call<string>('newProvider', { name: 'ada' });
  t.match(await conduit(['login', world.description.conduitUrl, '--token', token]), { exitCode: 0 });
  const deployed = await conduit(['deploy', app]);
  t.equal(deployed.exitCode, 0, `${deployed.stdout}\n${deployed.stderr}`);
  const status = JSON.parse((await conduit(['status', 'ledger', '--json'])).stdout) as { sites: { zone: string; edgepoint: string }[] };
  const [site] = status.sites;
  const here = world.description.edgepoints.find(({ edgepoint }) => edgepoint === site?.edgepoint);
  return {
    world,
    conduit,
    edgepoint: site?.edgepoint ?? '',
    ask: async (path) => {
      const { stdout } = await world.call<{ stdout: string }>('runIn', { netns: here?.netns, argv: ['curl', '-s', '-m', '90', '-H', 'Host: ledger.edge.test', `http://${here?.ipv4}${path}`] });
      return stdout;
    },
  };
}

const lastOf = ({ stdout }: Ended): { type: string; code?: string; text: string; figures: Record<string, number> } => JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}');

t.test('a volume is snapshotted into the object store, rolled back, and says when it is full', async (t) => {
  const { conduit, ask, world } = await openRig(t, 'template');
  for (let row = 1; row <= 3; row += 1) t.equal(await ask('/add'), `${row}`);
  await ask('/noise/6000000');
  const first = await conduit(['volumes', 'snapshot', 'ledger', 'data', '--json']);
  t.equal(first.exitCode, 0, `${first.stdout}${first.stderr}`);
  const { figures } = lastOf(first);
  t.equal(figures['snapshot'], 1);
  t.ok((figures['newBytes'] ?? 0) > 6_000_000, `what cannot be compressed is sent: ${JSON.stringify(figures)}`);
  t.comment(JSON.stringify(figures));

  t.equal(await ask('/add'), '4');
  const second = await conduit(['volumes', 'snapshot', 'ledger', 'data', '--json']);
  t.equal(second.exitCode, 0, `${second.stdout}${second.stderr}`);
  t.ok((lastOf(second).figures['newBytes'] ?? Infinity) < 2_500_000, `the second time only what has changed: ${JSON.stringify(lastOf(second).figures)}`);
  t.comment(JSON.stringify(lastOf(second).figures));

  const listed = await conduit(['volumes', 'ledger']);
  t.match(listed.stdout, /data\s+\/data\s+[\d.]+ MiB of 32\.0 MiB used, [\d.]+ MiB free, 2 snapshots take/, listed.stdout + listed.stderr);
  t.comment(listed.stdout);

  t.equal(await ask('/add'), '5');
  const restored = await conduit(['volumes', 'restore', 'ledger', 'data', '1', '--yes', '--json']);
  t.equal(restored.exitCode, 0, `${restored.stdout}${restored.stderr}`);
  t.comment(JSON.stringify(lastOf(restored).figures));
  t.equal(await ask('/count'), '3', 'it is as it was');
  t.equal(await ask('/add'), '4', 'and may be written');
  const forward = await conduit(['volumes', 'restore', 'ledger', 'data', '2', '--yes', '--json']);
  t.equal(forward.exitCode, 0, `${forward.stdout}${forward.stderr}`);
  t.equal(await ask('/count'), '4');

  t.match(await conduit(['volumes', 'restore', 'ledger', 'data', '9', '--yes']), { exitCode: 11, stderr: /no snapshot 9/ });
  t.match(await conduit(['volumes', 'snapshot', 'ledger', 'date']), { exitCode: 11, stderr: /no volume "date"/ });
  t.match(await conduit(['volumes', 'restore', 'ledger', 'data', '1']), { exitCode: 2, stderr: /--yes/ });

  t.equal(await ask('/fill'), 'ENOSPC', 'a volume ends at its size');
  t.match((await conduit(['status', 'ledger'])).stdout, /FULL/, 'and status says so');
  await ask('/drop/0');
  t.notMatch((await conduit(['status', 'ledger'])).stdout, /FULL/);

  const third = await conduit(['volumes', 'snapshot', 'ledger', 'data', '--keep', '1', '--json']);
  t.equal(third.exitCode, 0, `${third.stdout}${third.stderr}`);
  const left = JSON.parse((await conduit(['volumes', 'ledger', '--json'])).stdout) as { sites: { volumes: { snapshots: { snapshot: number }[]; storedBytes: number }[] }[] };
  t.same(left.sites[0]?.volumes[0]?.snapshots.map(({ snapshot }) => snapshot), [3], 'older ones are gone');
  t.equal((await conduit(['volumes', 'restore', 'ledger', 'data', '3', '--yes'])).exitCode, 0, 'what is left is whole');
  t.match(await conduit(['volumes', 'remove', 'ledger', 'data', '3']), { exitCode: 0, stdout: /removed/ });
  const none = JSON.parse((await conduit(['volumes', 'ledger', '--json'])).stdout) as typeof left;
  t.match(none.sites[0]?.volumes[0], { snapshots: [], storedBytes: 0 });
  t.equal(await world.stop(), 0);
  t.same(tracesOf(world.description.id), []);
});

t.test('an app that keeps its memory goes back with its volume, no request is lost, and a kill leaves the old or the new', async (t) => {
  const { conduit, ask, world, edgepoint } = await openRig(t, 'keep');
  for (let row = 1; row <= 3; row += 1) t.equal(await ask('/add'), `${row}`);
  t.equal((await conduit(['volumes', 'snapshot', 'ledger', 'data'])).exitCode, 0);
  for (let row = 4; row <= 6; row += 1) t.equal(await ask('/add'), `${row}`);
  for (let count = 1; count <= 5; count += 1) t.equal(await ask('/remember'), `${count}`);

  const answers: string[] = [];
  let stop = false;
  const asking = (async () => {
    while (!stop) answers.push(await ask('/count'));
  })();
  const restored = await conduit(['volumes', 'restore', 'ledger', 'data', '1', '--yes', '--json']);
  t.equal(restored.exitCode, 0, `${restored.stdout}${restored.stderr}`);
  t.comment(JSON.stringify(lastOf(restored).figures));
  const before = answers.length;
  while (answers.length < before + 3) await new Promise((resolve) => setTimeout(resolve, 10));
  stop = true;
  await asking;
  t.same(answers.filter((answer) => answer !== '6' && answer !== '3'), [], `each of ${answers.length} requests was answered, by the old or the new`);
  t.equal(answers.at(-1), '3');
  t.equal(answers.lastIndexOf('6') < answers.indexOf('3'), true, 'and never by the old after the new');
  t.equal(await ask('/remember'), '1', 'its memory begins anew');

  const seed = process.env['SEED'] === undefined ? Date.now() % 100_000 : Number(process.env['SEED']);
  t.comment(`SEED=${seed}`);
  const cut: Promise<Ended>[] = [];
  for (const [round, name] of [`${edgepoint}-snapd`, `${edgepoint}-head`].entries()) {
    t.match(await ask('/add'), /^[45]$/);
    const newest = Number(await ask('/count'));
    cut.push(conduit(['volumes', 'restore', 'ledger', 'data', '1', '--yes', '--json']));
    await new Promise((resolve) => setTimeout(resolve, 500 + ((seed * (round + 1)) % 1500)));
    t.equal(await world.call('kill', { name, signal: 'SIGKILL' }), true, name);
    // What the head was holding is told anew when it is back; whatever was answered is of one or the other.
    let count = '';
    for (const deadline = Date.now() + 120_000; !/^\d+$/.test(count) && Date.now() < deadline; ) count = await ask('/count');
    t.ok([3, newest].includes(Number(count)), `${name} was killed: ${count} of ${newest} rows, or 3`);
    for (const deadline = Date.now() + 120_000; (await conduit(['volumes', 'restore', 'ledger', 'data', '1', '--yes'])).exitCode !== 0; ) if (Date.now() > deadline) return t.fail(`no restore succeeds after ${name} was killed`);
    t.equal(await ask('/count'), '3', 'and it can be done again');
  }
  await Promise.all(cut);
  t.equal(await world.stop(), 0);
  t.same(tracesOf(world.description.id), []);
});
