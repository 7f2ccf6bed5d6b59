import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { keptReleases } from '../../conduit/rollback.ts';
import { openSecrets } from '../../edgepoint/restored/secrets.ts';
import { publicText } from '../../host/wrap.ts';
import { edgepointStateMessage } from '../../kit/wire/edgepoint-state.ts';
import { buckets, stateKey } from '../../kit/wire/subjects.ts';
import { encodeMessage } from '../../kit/wire/version.ts';
import { siteA, siteB, until } from '../host/nats.ts';
import { appFolder, plainManifest, run, startConduit, startEdgepoint } from './rig.ts';
import type { FakeEdgepoint, Ran } from './rig.ts';

const owner = (app: string) => ({ provider: 'ada', scope: 'main', app });

/** A conduit, two edgepoints with keys, and a provider who speaks by the command line. */
async function open(t: Test, options: { keyless?: boolean } = {}) {
  const world = await startConduit(t);
  const key = generateKeyPairSync('x25519').privateKey;
  const one = await startEdgepoint(t, world.nats, siteA, { opens: publicText(key) });
  const two = await startEdgepoint(t, world.nats, siteB, options.keyless === true ? {} : { opens: publicText(key) });
  const token = await world.token('ada');
  const cli = (words: readonly string[], input?: string): Promise<Ran> => world.cli(words, { token, ...(input === undefined ? {} : { input }) });
  const done = async (words: readonly string[], input?: string): Promise<Ran> => {
    const ran = await cli(words, input);
    if (ran.code !== 0) throw new Error(`${words.join(' ')}: ${ran.stdout}${ran.stderr}`);
    return ran;
  };
  /** What an edgepoint can read of the secrets it was told last. */
  const told = (edgepoint: FakeEdgepoint, app: string) => {
    const desired = edgepoint.desired.get(app);
    const secrets = desired?.secrets;
    return { release: desired?.release ?? 0, env: desired?.manifest.env ?? {}, secrets: openSecrets({ owner: owner(app), release: desired?.release ?? 0, ...(secrets === undefined ? {} : { secrets }) }, edgepoint.site, () => key) };
  };
  const deploy = (app: string, text = '', more = ''): Promise<Ran> => done(['deploy', appFolder(t, plainManifest(app, more), { 'server.js': `// ${text}\n` }), '--no-watch']);
  return { world, one, two, token, cli, done, told, deploy, key };
}

t.test('variables and secrets: each change is a release, which carries them on', async (t) => {
  const { world, one, two, cli, done, told, deploy } = await open(t);
  await deploy('shop', 'one', '[env]\nLOG = "warn"\nOWN = "of the manifest"\n');
  const set = await done(['env', 'set', 'LOG=debug', 'EMPTY=', 'SUM=1=1', '--app', 'shop']);
  t.match(set.stdout, /release 2 goes to north\/one, south\/two .*ready: http:\/\/shop\.edge\.test\//s, 'it is watched as a deploy is');
  t.same(told(one, 'shop'), { release: 2, env: { OWN: 'of the manifest', LOG: 'debug', EMPTY: '', SUM: '1=1' }, secrets: {} });
  t.match((await done(['env', 'set', 'LOG=debug', '--app', 'shop'])).stdout, /Nothing changes: release 2 has it already/);
  t.equal(one.desired.get('shop')?.release, 2, 'no release is made of nothing');

  await done(['secrets', 'set', 'KEY', '--app', 'shop'], 'hidden-one\n');
  const file = join(world.folder, 'key.pem');
  writeFileSync(file, 'hidden\nlines\n');
  await done(['secrets', 'set', 'PEM', '--app', 'shop', '--file', file]);
  for (const edgepoint of [one, two]) t.same(told(edgepoint, 'shop'), { release: 4, env: { OWN: 'of the manifest', LOG: 'debug', EMPTY: '', SUM: '1=1' }, secrets: { KEY: 'hidden-one', PEM: 'hidden\nlines\n' } }, 'stdin loses its last line feed, a file nothing');
  t.match((await done(['env', 'list', '--app', 'shop'])).stdout, /NAME +FROM +VALUE\nEMPTY +set +\nLOG +set +debug\nOWN +manifest +of the manifest\nSUM +set +1=1\n/);
  const listed = await done(['secrets', 'list', '--app', 'shop', '--json']);
  t.match(JSON.parse(listed.stdout), { app: 'shop', release: 4, secrets: [{ name: 'KEY', release: 3 }, { name: 'PEM', release: 4 }] });
  t.strictSame(Object.keys(JSON.parse(listed.stdout).secrets[0]), ['name', 'setWallMs', 'release'], 'nothing of a value');
  t.match((await done(['secrets', 'list', '--app', 'shop'])).stdout, /NAME +SINCE RELEASE +SET\nKEY +3 +\d{4}-/);

  await deploy('shop', 'two', '[env]\nOWN = "of the next"\nKEY = "in the manifest"\n');
  await until('it is told', () => told(one, 'shop').release === 5);
  t.same(told(one, 'shop'), { release: 5, env: { OWN: 'of the next', LOG: 'debug', EMPTY: '', SUM: '1=1' }, secrets: { KEY: 'hidden-one', PEM: 'hidden\nlines\n' } }, 'a deploy keeps what was set');
  await done(['secrets', 'rotate', 'KEY', '--app', 'shop'], 'hidden-two');
  t.equal(told(one, 'shop').secrets['KEY'], 'hidden-two');
  t.match(await cli(['secrets', 'rotate', 'NEVER', '--app', 'shop'], 'hidden-x'), { code: 5, stderr: /shop has no secret of that name/ });

  await done(['rollback', 'shop']);
  t.same([told(one, 'shop').release, told(one, 'shop').secrets['KEY']], [5, 'hidden-one'], 'a release has the secrets it was made with');
  await done(['env', 'unset', 'LOG', 'SUM', 'EMPTY', '--app', 'shop']);
  t.same(told(one, 'shop'), { release: 7, env: { OWN: 'of the next' }, secrets: { KEY: 'hidden-one', PEM: 'hidden\nlines\n' } }, 'what comes after goes on from the one that serves');
  await done(['secrets', 'unset', 'KEY', 'PEM', '--app', 'shop']);
  t.equal(one.desired.get('shop')?.secrets, undefined);
  t.equal(told(one, 'shop').env['KEY'], 'in the manifest', 'what the manifest says counts again');
  const releases = (await done(['releases', 'shop'])).stdout;
  t.match(releases, /BY\n8 +serves .*secrets: unset KEY, PEM\n7 +kept .*env: unset LOG, SUM, EMPTY\n6 .*secrets: set KEY\n5 .*deploy\n4 .*secrets: set PEM\n3 .*\n2 .*env: set LOG, EMPTY, SUM\n1 .*deploy/);
  t.notMatch(releases, /hidden/);
  t.notMatch(world.log(), /hidden/, 'nor in the log');
});

t.test('what is refused says why, and loses nothing', async (t) => {
  const { world, one, cli, done, told, deploy, token } = await open(t);
  await deploy('shop');
  await done(['secrets', 'set', 'KEY', '--app', 'shop'], 'hidden-one');
  const tooBig = `hidden-${'x'.repeat(40_000)}`;
  const rows: readonly (readonly [words: string[], input: string | undefined, code: number, said: RegExp])[] = [
    [['secrets', 'set', 'BIG', '--app', 'shop'], tooBig, 4, /the value of BIG has 40007 bytes; 32768 are allowed/],
    [['secrets', 'set', 'BIG', '--app', 'shop'], `hidden-${'x'.repeat(300_000)}`, 4, /the value has more than 262144 bytes/],
    [['secrets', 'set', 'NONE', '--app', 'shop'], '', 4, /the value of NONE is empty/],
    [['secrets', 'set', 'hidden-name', '--app', 'shop'], 'hidden-x', 4, /a name of what was to be set is no name of a variable/],
    [['secrets', 'set', 'KEY=hidden-x', '--app', 'shop'], '', 2, /a secret’s value is not given on the command line/],
    [['env', 'set', 'KEY=plain', '--app', 'shop'], undefined, 4, /KEY is a secret/],
    [['env', 'set', 'PORT=1', '--app', 'shop'], undefined, 4, /PORT is set by the edgepoint/],
    [['env', 'set', 'LOG', '--app', 'shop'], undefined, 2, /"LOG" is not of the form NAME=VALUE/],
    [['env', 'unset', 'LOG', '--app', 'shop'], undefined, 5, /LOG is not set/],
    [['secrets', 'set', 'KEY'], 'hidden-x', 2, /which app\? There is no edgepoint\.toml here/],
    [['secrets', 'set', 'KEY', '--app', 'nothing'], 'hidden-x', 5, /you have no app named "nothing"/],
    [['secrets', 'set', 'KEY', '--app', 'shop', '--file', '/nowhere/at/all'], undefined, 2, /\/nowhere\/at\/all cannot be read/],
  ];
  for (const [words, input, code, said] of rows) {
    const ran = await cli(words, input);
    t.match(ran, { code, stderr: said }, words.join(' '));
    t.notMatch(ran.stdout + ran.stderr, /hidden/, 'no value is repeated');
  }
  const eve = await world.token('eve');
  for (const words of [['secrets', 'list'], ['env', 'list'], ['secrets', 'unset', 'KEY'], ['env', 'set', 'A=1']]) {
    t.match(await world.cli([...words, '--app', 'shop'], { token: eve }), { code: 5, stderr: /you have no app named "shop"/ }, `another provider: ${words.join(' ')}`);
  }
  const bodies: readonly (readonly [body: BodyInit, status: number, code: string])[] = [
    ['hidden', 400, 'body-invalid'],
    ['{"set":{"A":"hidden","B":5}}', 400, 'body-invalid'],
    ['{"set":{"A":"hidden"},"also":"hidden"}', 400, 'body-invalid'],
    ['{"set":"hidden"}', 400, 'body-invalid'],
    [Buffer.from([0x7b, 0xff, 0x7d]), 400, 'body-invalid'],
    ['', 400, 'body-invalid'],
    ['{}', 422, 'change-empty'],
    [`{"set":{"A":"${'x'.repeat(1024 * 1024)}"}}`, 413, 'body-too-big'],
    ['{"set":{"A":"hidden\\u0000"}}', 422, 'value-invalid'],
    ['{"set":{"PORT":"hidden"}}', 422, 'variable-reserved'],
  ];
  for (const [body, status, code] of bodies) {
    const answer = await world.ask(token, '/apps/shop/secrets', { method: 'PATCH', body });
    const text = await answer.text();
    t.equal(answer.status, status, text);
    t.equal(JSON.parse(text).code, code);
    t.notMatch(text, /hidden/);
  }
  t.match(await (await world.ask(token, '/apps/shop/secrets')).json(), { release: 2, secrets: [{ name: 'KEY' }] });
  t.same(told(one, 'shop'), { release: 2, env: {}, secrets: { KEY: 'hidden-one' } }, 'what was set stands');
  t.notMatch(world.log(), /hidden/);

  const written = appFolder(t, plainManifest('shop'));
  t.equal((await world.cli(['secrets', 'set', 'KEY', '--no-watch'], { token, cwd: written, input: 'hidden-two' })).code, 0, 'in a folder with a manifest its app is meant');
  await until('it is told', () => told(one, 'shop').secrets['KEY'] === 'hidden-two');
});

t.test('two who set at once lose nothing of each other', async (t) => {
  const { one, done, told, deploy } = await open(t);
  await deploy('shop');
  const words = ['A', 'B', 'C', 'D'].flatMap((name) => [['env', 'set', `${name}=of ${name}`], ['secrets', 'set', `S${name}`]]);
  await Promise.all(words.map((some) => done([...some, '--app', 'shop', '--no-watch'], some[0] === 'secrets' ? `hidden ${some[2]}` : undefined)));
  await until('the last is told', () => one.desired.get('shop')?.release === 9);
  t.same(told(one, 'shop'), {
    release: 9,
    env: { A: 'of A', B: 'of B', C: 'of C', D: 'of D' },
    secrets: { SA: 'hidden SA', SB: 'hidden SB', SC: 'hidden SC', SD: 'hidden SD' },
  });
});

t.test('what no release needs any more is forgotten; what stays in the database is sealed', async (t) => {
  const { world, done, deploy } = await open(t);
  await deploy('shop');
  const value = `hidden-${randomBytes(12).toString('hex')}`;
  await done(['secrets', 'set', 'KEY', '--app', 'shop', '--no-watch'], value);
  const sealedRows = async (): Promise<{ release: number; secrets: string }[]> => {
    const { createClient } = await import('@libsql/client');
    const database = createClient({ url: `file:${join(world.folder, 'conduit.db')}` });
    const { rows } = await database.execute("SELECT release, secrets FROM releases WHERE secrets <> '' ORDER BY release");
    database.close();
    return rows.map((row) => ({ release: Number(row['release']), secrets: String(row['secrets']) }));
  };
  for (let count = 0; count < keptReleases + 1; count += 1) await done(['env', 'set', `N=${count}`, '--app', 'shop', '--no-watch']);
  const rows = await sealedRows();
  t.same(rows.map(({ release }) => release), Array.from({ length: keptReleases }, (_, index) => index + 4), 'only of releases that can be gone back to');
  t.equal(new Set(rows.map(({ secrets }) => secrets)).size, keptReleases, 'each sealed by itself');
  const forms = [value, Buffer.from(value).toString('base64').slice(0, -4), Buffer.from(value).toString('hex')];
  for (const name of readdirSync(world.folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))) {
    const text = readFileSync(name).toString('latin1');
    t.notOk(forms.some((form) => text.includes(form)), `${name} does not hold it`);
  }
  await done(['delete', 'shop', '--yes']);
  t.same(await sealedRows(), [], 'an app that is deleted leaves none');
});

t.test('an edgepoint that has not told its key waits for its secrets, and holds back nobody else', async (t) => {
  const { world, one, two, done, told, deploy, key } = await open(t, { keyless: true });
  await deploy('shop');
  await until('both have it', () => two.desired.get('shop')?.release === 1);
  await done(['secrets', 'set', 'KEY', '--app', 'shop', '--no-watch'], 'hidden-one');
  await until('the other has it', () => one.desired.get('shop')?.release === 2);
  await until('it is said in the log', () => /"code":"edgepoint-key-unknown"/.test(world.log()));
  t.equal(two.desired.get('shop')?.release, 1, 'and is told nothing it could not open');
  const bus = await world.nats.bus('south.two');
  const say = (opens: string): Promise<unknown> =>
    bus.putKv(buckets.state, stateKey(siteB), encodeMessage(edgepointStateMessage, { ...siteB, bootId: 'boot', ipv4: '', ipv6: '', latitude: 0, longitude: 0, load: 0, capacityBytes: 1, accepting: true, epoch: 'e1', complete: true, opens }));
  await say(publicText(key));
  await until('it is told as soon as it has', () => two.desired.get('shop')?.release === 2);
  t.same(told(two, 'shop').secrets, { KEY: 'hidden-one' });
  const before = two.desired.get('shop')?.secrets?.wrapped;
  await world.kill('SIGKILL');
  await world.start();
  await done(['env', 'list', '--app', 'shop']);
  t.equal(two.desired.get('shop')?.secrets?.wrapped, before, 'a restarted conduit tells the same');

  const other = generateKeyPairSync('x25519').privateKey;
  await say(publicText(other));
  await until('one with a new key is told anew', () => two.desired.get('shop')?.secrets?.wrapped !== before);
  t.same(openSecrets({ owner: owner('shop'), release: 2, secrets: two.desired.get('shop')?.secrets as never }, siteB, () => other), { KEY: 'hidden-one' });
});

t.test('a check has what was set', async (t) => {
  const { one, two, done, deploy, key } = await open(t);
  await deploy('shop');
  await done(['env', 'set', 'LOG=debug', '--app', 'shop', '--no-watch']);
  await done(['secrets', 'set', 'KEY', '--app', 'shop', '--no-watch'], 'hidden-one');
  await done(['check', appFolder(t, plainManifest('shop'))]);
  const [order] = [...one.checksSeen, ...two.checksSeen];
  const site = one.checksSeen.length > 0 ? siteA : siteB;
  t.same(order?.manifest.env, { LOG: 'debug' });
  t.same(order && openSecrets({ owner: owner('shop'), release: order.release, ...(order.secrets ? { secrets: order.secrets } : {}) }, site, () => key), { KEY: 'hidden-one' });
  await done(['check', appFolder(t, plainManifest('new'))]);
  t.equal([...one.checksSeen, ...two.checksSeen].find((seen) => seen.app === 'new')?.secrets, undefined, 'a new app has none');
});

t.test('at a terminal the value is asked for and not shown', async (t) => {
  const { world, one, told, deploy, token } = await open(t);
  await deploy('shop');
  const bun = join(process.cwd(), 'node_modules/.bin/bun');
  const command = `${bun} ${join(process.cwd(), 'conduit/cli/main.ts')} secrets set KEY --app shop --no-watch`;
  // script(1) gives it a terminal; it types once it was asked.
  const typed = await run('sh', ['-c', `(sleep 3; printf 'hidden-oneX\\177\\r') | script -qec '${command}' /dev/null`], { env: { CONDUIT_URL: world.url, CONDUIT_TOKEN: token, HOME: world.folder, TERM: 'dumb' } });
  t.equal(typed.code, 0, typed.stdout + typed.stderr);
  t.match(typed.stdout, /Value of KEY \(not shown\): /);
  t.notMatch(typed.stdout + typed.stderr, /hidden/, 'nothing of it is shown');
  await until('it is told', () => told(one, 'shop').secrets['KEY'] === 'hidden-one');
});
