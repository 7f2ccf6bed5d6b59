import t from 'tap';
import type { UsageReport } from '../../kit/wire/usage.ts';
import { asleep, openFaultWorld, printTable, until, writeApp } from './faults/fault-world.ts';
import { startProber } from './faults/prober.ts';
import type { Probe } from './faults/prober.ts';
import { digestOf, saidBy, server as secretServer, setSecret } from './secret-app.ts';
import type { Said } from './secret-app.ts';

t.setTimeout(400_000); // thousands of requests, on whatever machine

/** Says which release answers, and boots slowly; with BAD in its environment every second POST fails. */
const server = `import { createServer } from 'node:http';
const bootedMs = Date.now();
while (Date.now() - bootedMs < 300);
let asked = 0;
createServer((request, response) => {
  if (process.env.BAD && request.method === 'POST' && asked++ % 2) response.statusCode = 500;
  response.setHeader('x-release', process.env.EDGEPOINT_RELEASE);
  response.end('here');
}).listen(process.env.PORT, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
`;
const app = 'shop';
const name = `${app}.edge.test`;
const lanes = [
  ...Array.from({ length: 3 }, () => ({ name, connection: 'kept', method: 'GET', pauseMs: 1 }) as const),
  { name, connection: 'fresh', method: 'GET', pauseMs: 3 },
  { name, connection: 'kept', method: 'POST', pauseMs: 3 },
  { name, connection: 'fresh', method: 'POST', pauseMs: 3 },
] as const;
/** For each share that is counted. */
const requestsLeast = 2000;

t.test('a canary, from its start to its end, under requests', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  const address = world.edgepoints[0]?.ipv4 ?? '';
  const folder = (text: string, more = ''): string => writeApp(world.folder, app, { server: `${server}// ${text}\n`, manifest: `[scale]\nidleSeconds = 1\nconcurrency = 4\n${more}` });
  const run = async (...words: string[]): Promise<void> => {
    const ran = await ada.conduit(words);
    if (ran.exitCode !== 0) throw new Error(`conduit ${words.join(' ')}: ${ran.stdout}${ran.stderr}`);
  };
  await ada.deploy(folder('one'));
  const prober = startProber(address, 'canary', lanes);
  const rows: string[][] = [];
  /** The share of the release among the next requests that begin from now on; `low` and `high` in percent. */
  const share = async (story: string, release: number, low: number, high: number): Promise<void> => {
    const from = prober.probes.length;
    const answered = (): Probe[] => prober.probes.slice(from).filter(({ endedMs }) => endedMs > 0);
    await until(() => `${requestsLeast} requests: ${answered().length}`, () => answered().length >= requestsLeast, 120_000);
    const counted = answered();
    const hits = counted.filter((probe) => probe.release === `${release}`).length;
    const percent = (hits / counted.length) * 100;
    rows.push([story, `${counted.length}`, `${release}`, percent.toFixed(1)]);
    t.ok(percent >= low && percent <= high, `${story}: ${percent.toFixed(1)} % of ${counted.length} are of release ${release}`);
  };
  /** Until the edgepoint does what was wished: requests that begin then are of that release alone. */
  const settles = (release: number, of = prober): Promise<void> =>
    until(`release ${release} alone answers`, () => {
      const last = of.probes.filter(({ endedMs }) => endedMs > 0).slice(-200);
      return last.every((probe) => probe.release === `${release}`);
    }, 60_000);
  /** The command returns when every edgepoint is ready, not when its dispatcher has heard. */
  const begins = (release: number): Promise<void> => until(`release ${release} answers`, () => prober.probes.slice(-500).some((probe) => probe.release === `${release}`), 60_000);

  try {
    await share('one release', 1, 100, 100);
    await run('deploy', folder('two'), '--canary', '20');
    await begins(2);
    await share('a canary of 20 %', 2, 10, 30);
    await run('canary', app, '--percent', '60');
    // Of 400 requests at 20 %, 45 % are of the canary less often than once in 10^30 times.
    await until('the new share is there', () => prober.probes.filter(({ endedMs }) => endedMs > 0).slice(-400).filter((probe) => probe.release === '2').length >= 180, 60_000);
    await share('the same of 60 %', 2, 50, 70);
    await run('abort', app);
    await settles(1);
    await share('taken away', 1, 100, 100);
    await run('deploy', folder('three'), '--canary', '30');
    await begins(3);
    await run('promote', app);
    await settles(3);
    await share('promoted', 3, 100, 100);
  } finally {
    await prober.stop();
  }
  printTable(t, ['story', 'requests', 'release', 'percent of them'], rows);
  const lost = prober.probes.filter(({ status }) => status !== 200);
  t.same(lost.map((probe) => `${probe.connection} ${probe.method}: ${probe.status} ${probe.error}`), [], `no request of ${prober.probes.length} is lost`);

  await t.test('what the canary used is the app’s, and told apart', async (t) => {
    let apps: UsageReport['apps'] = [];
    await until(() => `both have used something: ${JSON.stringify(apps)}`, async () => {
      ({ apps } = await ada.json<UsageReport>(['usage', app]));
      return ['canary', 'main'].every((scope) => apps.some((row) => row.scope === scope && row.totals.requests > 0 && row.totals.cpuNs > 0));
    });
    t.match((await ada.conduit(['usage', app])).stdout, /shop \(canary\) /);
    t.match((await ada.conduit(['logs', app])), { exitCode: 0 });
  });

  await t.test('one that fails is stopped where it fails, and its provider is told', async (t) => {
    // Asked before it is ready at both edgepoints it might be stopped at the one while the other prepares it, and its deploy would fail.
    await run('deploy', folder('four', '[env]\nBAD = "1"\n'), '--canary', '50');
    const prober = startProber(address, 'bad', lanes);
    try {
      const canary = async () => (await ada.status(app)).canary;
      await until('it is stopped', async () => (await canary())?.sites.some(({ state }) => state?.status === 'failed') === true, 120_000);
      await settles(3, prober);
      const told = await canary();
      const [first, second] = told?.sites ?? [];
      t.match(first?.state, { status: 'failed', reason: /^\d+ of \d+ \(\d+\.\d %\) failed; of the release that serves, 0 of \d+ \(0\.0 %\)$/ });
      t.match(second?.state, { status: 'ready' }, 'where nobody asked nothing is known against it');
      t.match((await ada.conduit(['status', app])).stdout, /canary {2}release 4, 50 % of the requests\n\n.* {2}failed\n/);
      t.match((await ada.status(app)).sites[0]?.state, { status: 'ready', release: 3 });
    } finally {
      await prober.stop();
    }
    const failed = prober.probes.filter(({ status }) => status !== 200);
    t.ok(failed.every(({ status, release }) => status === 500 && release === '4'), 'what failed was answered so by the canary itself');
    t.comment(`${failed.length} of ${prober.probes.length} requests failed, ${prober.probes.filter(({ release }) => release === '4').length} were the canary’s, before it was stopped`);
    await run('abort', app);
  });

  await t.test('a plain deploy that fails is taken back where it fails, and says so', async (t) => {
    const prober = startProber(address, 'taken-back', lanes);
    try {
      const ran = await ada.conduit(['deploy', folder('five', '[env]\nBAD = "1"\n'), '--settle', '300']);
      t.equal(ran.exitCode, 10, ran.stderr);
      t.match(ran.stdout, /Release 5 is taken back here, and release 3 serves again: \d+ of \d+ \(\d+\.\d %\) failed; of the release before, 0 of \d+ \(0\.0 %\)/);
      t.match(ran.stderr, /the deploy of shop is not done: ready at 1 of 2 edgepoints/);
      await settles(3, prober);
    } finally {
      await prober.stop();
    }
    t.match((await ada.status(app)).sites[0]?.state, { status: 'ready', release: 3, reason: /of the release before/ });
    const failed = prober.probes.filter(({ status }) => status !== 200);
    t.same(failed.filter(({ status, release }) => status !== 500 || release !== '5'), [], 'what failed was answered so by the new release itself: no request is lost');
    const answered = prober.probes.filter(({ release }) => release === '5').length;
    t.comment(`${failed.length} of ${prober.probes.length} requests failed; release 5 answered ${answered} before it was taken back`);
  });

  await t.test('a canary has the secrets of its app, and the promoted release too', async (t) => {
    const keyed = (mark: string): string => writeApp(world.folder, 'keyed', { server: secretServer, manifest: `[env]\nMARK = "${mark}"\n` });
    await ada.deploy(keyed('one'));
    t.equal((await setSecret(world, ada, 'keyed', 'a secret')).exitCode, 0);
    await run('deploy', keyed('two'), '--canary', '50');
    const said = new Map<string, Said>();
    const bothSaid = async (...marks: string[]): Promise<void> => {
      said.clear();
      await until(() => `${marks.join()} answer: ${[...said.keys()].join()}`, async () => {
        const one = await saidBy(address, 'keyed');
        said.set(one.mark ?? '', one);
        return marks.every((mark) => said.has(mark));
      });
      for (const mark of marks) t.match(said.get(mark), { env: digestOf('a secret'), file: digestOf('a secret') }, mark);
    };
    await bothSaid('one', 'two');
    await run('promote', 'keyed');
    await until('the promoted one answers alone', async () => (await Promise.all(Array.from({ length: 30 }, () => saidBy(address, 'keyed')))).every(({ mark }) => mark === 'two'));
    await bothSaid('two');
    t.equal((await ada.conduit(['delete', 'keyed', '--yes'])).exitCode, 0);
  });

  t.equal((await ada.conduit(['delete', app, '--yes'])).exitCode, 0);
  await asleep(world);
  await world.stop(t);
});
