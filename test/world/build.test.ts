import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { BuildLine } from '../../conduit/api/answers.ts';
import type { AppEvent } from '../../kit/wire/event.ts';
import { ask, asleep, instanceRemains, openFaultWorld, until, writeApp } from './faults/fault-world.ts';
import type { FaultWorld, Provider } from './faults/fault-world.ts';
import { startPackageRegistry } from './package-registry.ts';
import { setSecret } from './secret-app.ts';

t.setTimeout(600_000);

/** Answers with what the package says, and with a word of its own. */
const server = (word: string): string => `import { createServer } from 'node:http';
import greet from 'greeting';
const bootedMs = Date.now();
while (Date.now() - bootedMs < 300);
createServer((request, response) => response.end(greet('${word}'))).listen(process.env.PORT, '0.0.0.0');
`;

interface Sent {
  readonly exitCode: number | null;
  readonly lines: readonly BuildLine[];
  readonly events: readonly AppEvent[];
  readonly output: string;
  readonly stderr: string;
  readonly end: { readonly code: string; readonly text: string };
}

async function send(provider: Provider, argv: readonly string[]): Promise<Sent> {
  const ran = await provider.conduit([...argv, '--json']);
  const lines = ran.stdout.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as BuildLine);
  const events = lines.flatMap((line) => (line.type === 'event' ? [line.event] : []));
  const end = lines.find((line) => line.type === 'end');
  return { exitCode: ran.exitCode, lines, events, stderr: ran.stderr, end: { code: end?.type === 'end' ? (end.code ?? '') : '', text: end?.type === 'end' ? end.text : '' }, output: lines.flatMap((line) => (line.type === 'output' ? [line.text] : [])).join('') };
}

/** No edgepoint holds a file, a process, a mount or a slot of a build but the dependencies kept for the next. */
async function nothingLeft(world: FaultWorld): Promise<void> {
  await asleep(world);
  let left: string[] = [];
  await until(() => `nothing is left: ${left.join(', ')}`, async () => {
    left = [...world.edgepoints.flatMap(({ edgepoint, dataFolder }) => readdirSync(join(dataFolder, 'checks')).map((name) => `${edgepoint} checks/${name}`)), ...(await instanceRemains(world))];
    return left.length === 0;
  });
}

t.test('source folders are built by the platform', async (t) => {
  const registry = await startPackageRegistry(t);
  registry.publish('greeting', '1.0.0', { 'index.js': "module.exports = (word) => `hello ${word} ${require('./made.json')}`;", 'make.js': "require('fs').writeFileSync('made.json', JSON.stringify('made here'));" }, { postinstall: 'node make.js' });
  const world = await openFaultWorld(t, ['--npm-registry', registry.url]);
  const ada = await world.newProvider('ada');
  const lock = registry.lock('greeter', ['greeting']);
  const described = (version = '1.0.0'): string => JSON.stringify({ name: 'greeter', version, dependencies: { greeting: '1.0.0' } });
  const greeter = (word: string, more: { manifest?: string; files?: Record<string, string> } = {}): string =>
    writeApp(world.folder, 'greeter', { server: server(word), manifest: `[scale]\nidleSeconds = 0.5\n${more.manifest ?? ''}`, files: { 'package.json': described(), 'package-lock.json': lock, ...more.files } });
  const answers = (): Promise<string[]> => Promise.all(world.edgepoints.map(async ({ ipv4 }) => (await ask({ host: ipv4, name: 'greeter.edge.test', path: '/' })).body));
  const hello = (word: string): string[] => world.edgepoints.map(() => `hello ${word} made here`);

  await t.test('what package-lock.json names is installed once, at one edgepoint, and runs at all', async (t) => {
    const sent = await send(ada, ['deploy', greeter('one')]);
    t.equal(sent.exitCode, 0, sent.stderr);
    t.match(sent.output, 'npm ci --omit=dev', 'what the build writes is shown');
    t.match(sent.output, 'added 1 package');
    t.same(await answers(), hello('one'));
    t.same(registry.asked.filter((path) => path.endsWith('.tgz')), ['/greeting/-/greeting-1.0.0.tgz'], 'fetched once');
    t.equal(new Set(sent.events.filter(({ stage }) => stage === 'build').map(({ edgepoint }) => edgepoint)).size, 1);
    await nothingLeft(world);
  });

  await t.test('another source of the same dependencies is not installed again', async (t) => {
    const before = registry.asked.length;
    const sent = await send(ada, ['deploy', greeter('two', { files: { 'package.json': described('1.0.1') } })]);
    t.equal(sent.exitCode, 0, sent.stderr);
    t.same(registry.asked.slice(before), [], 'nobody asked the registry');
    t.ok(sent.events.some(({ figures }) => figures['cached'] === 1));
    t.same(await answers(), hello('two'));
    await nothingLeft(world);
  });

  await t.test('another provider has nothing of it', async (t) => {
    const bob = await world.newProvider('bob');
    const before = registry.asked.length;
    const folder = writeApp(world.folder, 'other', { server: server('bob'), files: { 'package.json': described(), 'package-lock.json': lock } });
    t.equal((await send(bob, ['check', folder])).exitCode, 0, 'a check builds, too');
    t.ok(registry.asked.slice(before).some((path) => path.endsWith('.tgz')), 'it was fetched for him');
  });

  await t.test('a command of [build] runs, sees no variable or secret of the app, and its own tools are not released', async (t) => {
    t.equal((await ada.conduit(['env', 'set', 'SHOWN=no-secret-but-set', '--app', 'greeter'])).exitCode, 0);
    await setSecret(world, ada, 'greeter', 'a-word-that-no-build-sees');
    const build = '[build]\ncommand = ["node", "build.mjs"]\n';
    const files = { 'build.mjs': "import { writeFileSync, existsSync } from 'node:fs';\nconsole.log('BUILD', existsSync('/run/secrets'), JSON.stringify(process.env));\nwriteFileSync('server.mjs', process.env.npm_none ?? (await import('node:fs')).readFileSync('template.mjs', 'utf8'));\n", 'template.mjs': server('three') };
    const sent = await send(ada, ['deploy', greeter('nobody', { manifest: build, files })]);
    t.equal(sent.exitCode, 0, sent.stderr);
    t.match(sent.output, 'BUILD false');
    t.notMatch(sent.output, 'no-secret-but-set');
    t.notMatch(sent.output, 'a-word-that-no-build-sees');
    t.notMatch(sent.output, '"KEY"');
    t.same(await answers(), hello('three'));
    await nothingLeft(world);
  });

  const spoilt = (program: string, more = ''): string => greeter('never', { manifest: `[build]\ncommand = ["node", "build.mjs"]\n${more}`, files: { 'build.mjs': program } });
  /** Program of the build, more of [build], the code of its failure, what is said of it. */
  const bad: Readonly<Record<string, readonly [string, string, string, RegExp]>> = {
    'that fails': ["console.log('no such file: plan.txt'); process.exit(7);", '', 'build-failed', /node build.mjs ended with exit code 7.*no such file: plan.txt/s],
    'that hangs': ["console.log('waiting'); setInterval(() => {}, 1000);", 'timeoutSeconds = 20\n', 'build-timeout', /ended after 20 s.*timeoutSeconds.*waiting/s],
    'that fills the disk': ["import { appendFileSync } from 'node:fs';\nfor (;;) appendFileSync('/app/fat', Buffer.alloc(1 << 20));", '', 'build-disk-full', /filled the disk of the build \(256.0 MiB of the offering medium\)/],
    'that wants all memory': ['const held = [];\nfor (;;) held.push(Buffer.alloc(1 << 24, 1));', '', 'build-memory', /wanted more memory than the build has \(1.0 GiB of the offering medium\)/],
    'that forks without end': ["import { spawn } from 'node:child_process';\nfor (let i = 0; i < 2000; i += 1) spawn('sleep', ['1000']).on('error', () => process.exit(1));", '', 'build-processes', /wanted more processes than the build has \(512 of the offering medium\)/],
    'whose program is not there': ['', 'command = ["no-such-program"]\n', 'build-failed', /no-such-program could not be run/],
  };
  for (const [name, [program, more, code, text]] of Object.entries(bad)) {
    await t.test(`a build ${name} is ended, and nothing is left of it`, async (t) => {
      const folder = more.startsWith('command') ? greeter('never', { manifest: `[build]\n${more}` }) : spoilt(program, more);
      const sent = await send(ada, ['deploy', folder]);
      t.equal(sent.exitCode, 1, sent.stderr);
      t.ok(sent.end.code.startsWith(code), `${sent.end.code} is ${code}`);
      t.match(sent.end.text, text);
      t.match(sent.stderr, 'Nothing was released');
      t.same(await answers(), hello('three'), 'the release that serves goes on');
      await nothingLeft(world);
    });
  }

  await t.test('a lock file that does not fit is told in the words of npm', async (t) => {
    const sent = await send(ada, ['deploy', greeter('never', { files: { 'package.json': JSON.stringify({ name: 'greeter', dependencies: { greeting: '1.0.0', missing: '2.0.0' } }) } })]);
    t.match(sent.end, { code: 'build-failed', text: /npm ci --omit=dev ended with exit code 1.*lock file.*missing@2\.0\.0/s });
  });

  await t.test('who goes away takes the build along', async (t) => {
    const ended = ada.conduit(['deploy', spoilt("console.log('waiting'); setInterval(() => {}, 1000);", 'timeoutSeconds = 600\n'), '--json']);
    await until('the build runs', async () => (await ada.conduit(['logs', 'greeter', '--last', '3'])).stdout.includes('waiting'), 60_000, 250);
    await world.kill('conduit', 'SIGKILL');
    t.not((await ended).exitCode, 0);
    await world.allHealthy(60_000);
    await nothingLeft(world);
    t.equal((await send(ada, ['deploy', greeter('four')])).exitCode, 0, 'and the next one is built');
    t.same(await answers(), hello('four'));
  });
  t.equal((await ada.conduit(['delete', 'greeter', '--yes'])).exitCode, 0);
  await world.stop(t);
});
