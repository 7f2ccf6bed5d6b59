import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { bunPath } from './held-world.ts';
import { ask, asleep, instanceProcesses, openFaultWorld, runCommand, until, writeApp } from './faults/fault-world.ts';
import type { FaultWorld, Provider, Ran } from './faults/fault-world.ts';
import { startProber } from './faults/prober.ts';
import type { Prober } from './faults/prober.ts';
import { conduit, digestOf, saidBy, server, setSecret } from './secret-app.ts';

const repository = join(import.meta.dirname, '../..');

/** The value as it is, and encoded as base64 (at each of the three places it may have in a longer text) and as hexadecimal digits. */
function formsOf(value: string): string[] {
  const base64 = [0, 1, 2].map((before) => Buffer.from(`${'-'.repeat(before)}${value}`).toString('base64').slice(before === 0 ? 0 : 4, -4));
  const hex = Buffer.from(value).toString('hex');
  return [value, ...base64, ...base64.map((text) => text.replaceAll('+', '-').replaceAll('/', '_')), hex, hex.toUpperCase()];
}

t.test('a secret is found in nothing that the platform writes, tells or shows', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  const [first] = world.edgepoints;
  if (first === undefined) throw new Error('a world without an edgepoint');
  const value = `s3cret-${randomBytes(18).toString('base64url')}`;
  // What may be read is set too: where it is found, the secret would be.
  const mark = `mark-${randomBytes(18).toString('base64url')}`;
  const texts: string[] = [];
  const keep = (ran: Ran): Ran => {
    texts.push(ran.stdout, ran.stderr);
    return ran;
  };
  for (const [app, state] of [['shop', 'template'], ['keeper', 'keep']] as const) {
    await ada.deploy(writeApp(world.folder, app, { server, manifest: `state = "${state}"\n[scale]\nidleSeconds = 0.5\n` }));
    keep(await setSecret(world, ada, app, value));
    keep(await conduit(ada, ['env', 'set', `MARK=${mark}`, '--app', app]));
  }
  const [keeperAt] = (await ada.status('keeper')).sites;
  const keeper = world.edgepoints.find(({ edgepoint }) => edgepoint === keeperAt?.edgepoint) ?? first;
  const all = async (): Promise<void> => {
    for (const { ipv4 } of world.edgepoints) t.same(await saidBy(ipv4, 'shop', '/log'), { mark, env: digestOf(value), file: digestOf(value) });
    t.same(await saidBy(keeper.ipv4, 'keeper', '/log'), { mark, env: digestOf(value), file: digestOf(value) });
  };
  await all();
  await asleep(world);
  await all();
  // By POST, which is not sent again to the next instance: that would crash too, and one that ends again and again is not begun for a while.
  for (const app of ['shop', 'keeper']) {
    await ask({ host: keeper.ipv4, name: `${app}.edge.test`, path: '/crash', method: 'POST' });
    await until(`${app} has begun again`, async () => (await ask({ host: keeper.ipv4, name: `${app}.edge.test`, path: '/' })).status === 200);
  }
  await all();
  const broken = writeApp(world.folder, 'shop', { server: "console.log('cannot begin'); process.exit(3);\n" });
  t.not(keep(await ada.conduit(['deploy', broken])).exitCode, 0, 'a release that cannot begin is refused');
  keep(await ada.conduit(['check', broken]));
  keep(await conduit(ada, ['rollback', 'shop', '--to', '3']));
  const tooBig = join(world.folder, 'too-big');
  writeFileSync(tooBig, value.repeat(2000));
  t.equal(keep(await ada.conduit(['secrets', 'set', 'KEY', '--app', 'shop', '--file', tooBig])).exitCode, 4, 'too big a one is refused');
  for (const name of [`${first.edgepoint}-restored`, `${first.edgepoint}-head`, `${first.edgepoint}-snapd`, 'conduit']) await world.kill(name, 'SIGKILL');
  await world.allHealthy();
  await asleep(world);
  await all();
  await tell(world, ada, keep, texts);
  // Somebody uses them while it is looked, so that there is something to be found.
  const use = (ipv4: string, app: string): Prober => startProber(ipv4, 'look', [{ name: `${app}.edge.test`, connection: 'fresh', method: 'GET', pauseMs: 100 }]);
  const users = [use(first.ipv4, 'shop'), use(keeper.ipv4, 'keeper')];
  try {
    await until('both are awake', () => users.every(({ probes }) => probes.filter(({ status }) => status === 200).length > 3));
    await look(t, world, { forms: formsOf(value), texts, mark });
  } finally {
    await Promise.all(users.map((user) => user.stop()));
  }
  for (const app of ['shop', 'keeper']) await conduit(ada, ['delete', app, '--yes']);
  await asleep(world);
  await world.stop(t);
});

/** Everything that the platform tells about apps and itself, into `texts`. */
async function tell(world: FaultWorld, ada: Provider, keep: (ran: Ran) => Ran, texts: string[]): Promise<void> {
  for (const words of [['status'], ['releases'], ['env', 'list', '--app'], ['secrets', 'list', '--app'], ['logs'], ['usage']]) {
    for (const app of ['shop', 'keeper']) for (const json of [[], ['--json']]) keep(await conduit(ada, [...words, app, ...json]));
  }
  for (const { edgepoint, runFolder } of world.edgepoints) {
    const dump = join(world.folder, `dump-${edgepoint}`);
    const questions = [['status'], ['status', '--json'], ['explain'], ['explain', '--json'], ['explain', '--app', 'shop', '--dump', dump]];
    for (const words of questions) {
      const ran = keep(await runCommand([bunPath, join(repository, 'edgepoint/main.ts'), words[0] ?? '', '--run-folder', runFolder, ...words.slice(1)]));
      if (ran.exitCode !== 0) throw new Error(`edgepoint ${words.join(' ')}: ${ran.stderr}`);
    }
    texts.push(readFileSync(dump, 'utf8'));
  }
  const { conduitUrl, runFolder } = world.held.description;
  for (const name of Object.keys(await world.daemons())) {
    for (const path of ['/metrics', '/healthz']) texts.push((await ask({ socketPath: join(runFolder, 'daemons', name, 'health.sock'), path })).body);
  }
  const signedIn = await fetch(`${conduitUrl}/sign-in`, { method: 'POST', body: new URLSearchParams({ token: ada.token }), redirect: 'manual' });
  for (const path of ['', '/apps/keeper']) {
    const page = await (await fetch(`${conduitUrl}${path}`, { headers: { cookie: signedIn.headers.get('set-cookie')?.split(';')[0] ?? '' } })).text();
    if (!page.includes('keeper')) throw new Error(`not a page of apps: ${page}`);
    texts.push(page);
  }
  for (const path of ['events', 'releases', 'env', 'secrets']) texts.push(await (await fetch(`${conduitUrl}/v1/apps/shop/${path}`, { headers: { authorization: `Bearer ${ada.token}` } })).text());
}

/**
 * Looks for the secret in all files, memory file systems, words and environments of processes. Left out is the memory of instances themselves,
 * whose secret it is: their processes, their private disks, and their snapshots while they lie unpacked in the memory of root (decision 116).
 */
async function look(t: Test, world: FaultWorld, { forms, texts, mark }: { forms: readonly string[]; texts: readonly string[]; mark: string }): Promise<void> {
  const { dataFolder, runFolder, logFolder } = world.held.description;
  const searched = join(world.folder, 'searched');
  mkdirSync(searched);
  chmodSync(searched, 0o700);
  const patterns = (name: string, lines: readonly string[]): string => {
    const path = join(searched, name);
    writeFileSync(path, `${lines.join('\n')}\n`);
    return path;
  };
  const [secretFile, markFile] = [patterns('secret', forms), patterns('mark', [mark])];
  const daemons = await world.daemons();
  const found = async (file: string, folder: string, without: readonly string[], pid: number): Promise<string[]> => {
    const ran = await runCommand(['nsenter', `--mount=/proc/${pid}/ns/mnt`, '--', 'grep', '--recursive', '--binary-files=text', '--fixed-strings', '--files-with-matches', '--devices=skip', ...without.map((name) => `--exclude-dir=${name}`), `--file=${file}`, '--', folder]);
    // 1: nothing is found. What went away meanwhile is told on stderr, and makes it 2.
    if (ran.exitCode !== 0 && ran.exitCode !== 1 && !/No such file/.test(ran.stderr)) throw new Error(`grep: ${ran.stderr}`);
    return ran.stdout.split('\n').filter((line) => line !== '');
  };
  for (const text of texts) if (forms.some((form) => text.includes(form))) t.fail(`it was told: ${text}`);
  t.ok(texts.length > 40 && texts.some((text) => text.includes(mark)), `${texts.length} answers do not hold it, and what may be read stands in some`);

  const self = process.pid;
  t.same(await found(secretFile, dataFolder, [], self), [], 'no file of the data folder holds it: databases, the bus, snapshots, artefacts, volumes');
  t.same(await found(secretFile, logFolder, [], self), [], 'nor a log');
  const marked = await found(markFile, dataFolder, [], self);
  for (const part of ['/nats/', '/conduit/conduit.db', '/head/head.db']) t.ok(marked.some((path) => path.includes(part)), `what may be read is found in ${part}, so the secret would be`);
  for (const { edgepoint, runFolder: own } of world.edgepoints) {
    const pid = daemons[`${edgepoint}-restored`] ?? 0;
    // Folders of instances, and of unpacked snapshots.
    const instances = readdirSync(`/proc/${pid}/root${own}/instances`);
    t.same(await found(secretFile, own, ['hot', ...instances], pid), [], `nor a file below ${own}: records of instances, sockets, journals`);
    const unpacked = await found(secretFile, join(own, 'templates/hot'), [], pid);
    t.ok(unpacked.length > 0, 'it is found in the unpacked snapshots of the hot cache, so it would be elsewhere');
  }
  t.same(await found(secretFile, join(runFolder, 'daemons'), [], self), []);
  const own = new Set(instanceProcesses(world.id));
  const leaks = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((pid) => (['cmdline', 'environ'] as const).filter((file) => holds(`/proc/${pid}/${file}`, forms)).map((file) => ({ pid: Number(pid), file })));
  t.same(leaks.filter(({ pid, file }) => file === 'cmdline' || !own.has(pid)), [], 'no process has it among its words, and none but those of instances in its environment');
  t.ok(leaks.some(({ pid, file }) => file === 'environ' && own.has(pid)), 'instances have it in theirs');
}

function holds(path: string, forms: readonly string[]): boolean {
  try {
    const text = readFileSync(path, 'latin1');
    return forms.some((form) => text.includes(form));
  } catch {
    return false; // it ended meanwhile
  }
}
