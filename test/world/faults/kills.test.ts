import t from 'tap';
import { ask, asleep, instanceProcesses, instanceRemains, openFaultWorld, printTable, until, writeApp } from './fault-world.ts';
import type { FaultWorld, Provider } from './fault-world.ts';
import { readKernelCounters } from './kernel-counters.ts';
import { connectMs, startProber } from './prober.ts';
import type { Probe } from './prober.ts';

/**
 * kill -9 of each daemon in turn while requests run, on kept and on fresh connections, some of them to an app that sleeps between them:
 * no request is lost, except that the dispatcher's death may cut the exchanges inside it, none is done twice, and afterwards all is
 * as before: the same instance of the app that stays awake, nothing orphaned, nothing billed twice.
 */

t.setTimeout(process.env['LONG'] ? 1_800_000 : 400_000); // as many requests, on whatever machine
const site = 'paris';
const daemons = ['nats-server', 'metering', 'conduit', 'global-dispatcher', `${site}-head`, `${site}-snapd`, `${site}-restored`, `${site}-dispatcher`];
/** At each kill, half of them before it. */
const requestsLeast = process.env['LONG'] ? 50_000 : 10_000;
const answersMsMax = 120_000;
const steady = 'steady.edge.test';
const sleepy = 'sleepy.edge.test';
const lanes = [
  // What makes up the number of requests.
  ...Array.from({ length: 6 }, () => ({ name: steady, connection: 'kept', method: 'GET', pauseMs: 0 }) as const),
  { name: steady, connection: 'fresh', method: 'GET', pauseMs: 2 },
  { name: steady, connection: 'kept', method: 'GET', pauseMs: 10 },
  { name: steady, connection: 'kept', method: 'POST', pauseMs: 15 },
  { name: steady, connection: 'fresh', method: 'GET', pauseMs: 20 },
  { name: steady, connection: 'fresh', method: 'POST', pauseMs: 20 },
  // Longer than the app stays awake: most of these are wakes.
  { name: sleepy, connection: 'kept', method: 'GET', pauseMs: 450 },
  { name: sleepy, connection: 'fresh', method: 'GET', pauseMs: 350 },
] as const;

t.test('kill -9 of each daemon while requests run', async (t) => {
  const world = await openFaultWorld(t);
  const address = world.edgepoints.find(({ edgepoint }) => edgepoint === site)?.ipv4 ?? '';
  const ada = await world.newProvider('ada');
  const kernel = await readKernelCounters(t, world.id);
  await Promise.all([
    ada.deploy(writeApp(world.folder, 'steady', { manifest: '[scale]\nmin = 1\nmax = 1\nconcurrency = 1000\n' })),
    ada.deploy(writeApp(world.folder, 'sleepy', { manifest: '[scale]\nidleSeconds = 0.2\nconcurrency = 1\nmax = 3\n' })),
  ]);
  await until('the app that stays awake is awake', () => instanceProcesses(world.id, site).length > 0);
  const born = (await ask({ host: address, name: steady, path: '/' })).body;
  const before = await world.daemons();

  const rows: string[][] = [];
  for (const daemon of daemons) {
    await t.test(`kill -9 of ${daemon}`, async (t) => {
      const round = await killWhileProbing(world, daemon, address);
      const { lost, cut } = judge(round.probes, daemon, round);
      rows.push([daemon, `${round.probes.length}`, `${round.probes.filter((probe) => probe.name === sleepy).length}`, `${lost.length}`, daemon.endsWith('dispatcher') && daemon !== 'global-dispatcher' ? `${cut.length}` : '-', `${Math.round(round.acceptedMs)}`, `${Math.round(slowestMs(round.probes))}`, `${Math.round(round.healthyMs)}`]);
      t.ok(round.probes.length >= requestsLeast, `${round.probes.length} requests`);
      t.same(lost.map(sentence), [], 'no request is lost');
      t.ok(round.acceptedMs < 1000, `a new connection is accepted within 1 s (${Math.round(round.acceptedMs)} ms)`);
      const now = await world.daemons();
      t.not(now[daemon], before[daemon], 'it is another process');
      t.equal((await ask({ host: address, name: steady, path: '/' })).body, born, 'the instance that was awake lives on');
      t.match(await ask({ host: address, name: sleepy, path: '/' }), { status: 200 });
    });
  }
  t.comment('');
  printTable(t, ['killed', 'requests', 'to a sleeper', 'lost', 'cut inside', 'accepted ms', 'slowest ms', 'healthy ms'], rows);

  await t.test('afterwards nothing was done twice, orphaned or billed twice', async (t) => {
    const noted = JSON.parse((await ask({ host: address, name: steady, path: '/noted' })).body) as { ids: number; twice: string[] };
    t.ok(noted.ids > 100, `${noted.ids} POST requests arrived`);
    t.same(noted.twice, [], 'none of them twice');
    for (const app of ['steady', 'sleepy']) await asBefore(ada, app, app === 'steady' ? { warm: 1 } : {});
    t.equal((await ada.conduit(['delete', 'steady', '--yes'])).exitCode, 0);
    t.equal((await ada.conduit(['delete', 'sleepy', '--yes'])).exitCode, 0);
    await asleep(world);
    let remains: string[] = [];
    await until(() => `no mount, cgroup or namespace of an instance is left: ${remains.join('\n')}`, async () => {
      remains = await instanceRemains(world);
      return remains.length === 0;
    });
    const { cpuNs, slots } = await kernel.finish();
    const billedMs = await billedCpuMs(ada);
    t.comment(`CPU billed ${billedMs.toFixed(0)} ms of ${(cpuNs / 1e6).toFixed(0)} ms that the kernel counted for ${Object.values(slots).filter(({ used }) => used).length} instances`);
    t.ok(billedMs <= cpuNs / 1e6, 'not more is billed than was used');
    t.ok(billedMs >= (cpuNs / 1e6) * 0.9, 'and little less: only what was used in the last second before a counter was lost');
    await world.stop(t);
  });
});

interface Round {
  readonly probes: readonly Probe[];
  readonly killedMs: number;
  /** Until the kernel took a new connection, the daemon being dead. */
  readonly acceptedMs: number;
  readonly healthyMs: number;
}

async function killWhileProbing(world: FaultWorld, daemon: string, address: string): Promise<Round> {
  const prober = startProber(address, daemon, lanes);
  try {
    await until('requests are answered', () => prober.probes.length >= requestsLeast / 2, answersMsMax);
    const pid = (await world.daemons())[daemon];
    await world.kill(daemon, 'SIGKILL');
    const killedMs = performance.now();
    const acceptedMs = await connectMs(address);
    await until(`${daemon} runs again`, async () => ![undefined, pid].includes((await world.daemons())[daemon]));
    await world.allHealthy();
    const healthyMs = performance.now() - killedMs;
    // Every lane has had an answer to something it asked after all was well again.
    const wellMs = performance.now();
    await until('every lane goes on', () => lanes.every((lane) => prober.probes.some((probe) => sameLane(lane, probe) && probe.startedMs > wellMs && probe.status === 200)));
    await until('there were as many requests as wanted', () => prober.probes.length >= requestsLeast, answersMsMax);
    await prober.stop();
    return { probes: prober.probes, killedMs, acceptedMs, healthyMs };
  } finally {
    await prober.stop();
  }
}

const sameLane = (lane: (typeof lanes)[number], probe: Probe): boolean => lane.name === probe.name && lane.connection === probe.connection && lane.method === probe.method;

/** What the dispatcher's death may cut: what was inside it, and what went onto a kept connection before its end was known here. */
function judge(probes: readonly Probe[], daemon: string, round: Round): { lost: Probe[]; cut: Probe[] } {
  const bad = probes.filter((probe) => probe.status !== 200);
  const cut = daemon === `${site}-dispatcher` ? bad.filter((probe) => probe.status === 0 && (probe.startedMs <= round.killedMs || (probe.reused && probe.startedMs < round.killedMs + 100))) : [];
  return { lost: bad.filter((probe) => !cut.includes(probe)), cut };
}

const slowestMs = (probes: readonly Probe[]): number => Math.max(...probes.map((probe) => probe.endedMs - probe.startedMs));

function sentence(probe: Probe): string {
  return `${probe.method} ${probe.name} on a ${probe.connection} connection: ${probe.status === 0 ? probe.error : probe.status} after ${Math.round(probe.endedMs - probe.startedMs)} ms`;
}

async function asBefore(ada: Provider, app: string, instances: Record<string, number>): Promise<void> {
  let last = '';
  await until(() => `${app} is at every edgepoint as before: ${last}`, async () => {
    const { sites } = await ada.status(app);
    last = JSON.stringify(sites);
    return sites.length === 2 && sites.every(({ reachable, state }) => reachable && state?.status === 'ready' && state.wakeBy === 'template' && JSON.stringify(state.instances) === JSON.stringify(instances));
  });
}

/** Once no new record has come for a while. */
async function billedCpuMs(ada: Provider): Promise<number> {
  const ask = async (): Promise<number> => {
    const totals = await Promise.all(['steady', 'sleepy'].map((app) => ada.usage(app)));
    return totals.reduce((sum, total) => sum + (total?.cpuNs ?? 0) / 1e6, 0);
  };
  let last = -1;
  let sinceMs = performance.now();
  await until('the ledger is at rest', async () => {
    const now = await ask();
    if (now !== last) sinceMs = performance.now();
    last = now;
    return performance.now() - sinceMs > 1500;
  }, 30_000, 100);
  return last;
}
