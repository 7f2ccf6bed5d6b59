import { join } from 'node:path';
import t from 'tap';
import { bytesPerGibibyte, bytesPerMebibyte, formatMs } from '../../kit/units.ts';
import { liveOneDay } from '../../simulator/day.ts';
import type { Arrival, SimulatedApp } from '../../simulator/demand.ts';
import { ask, asleep, openFaultWorld, writeApp } from './faults/fault-world.ts';

/** The simulator and a real edgepoint under the same half minute of demand: real restores, real requests, real clocks. */

/** Answers after as many milliseconds as the path says. */
const server = `import { createServer } from 'node:http';
createServer((request, response) => setTimeout(() => response.end('done'), Number(request.url.slice(1)) || 0)).listen(process.env.PORT, '0.0.0.0');
`;
const shape = { concurrency: 2, max: 6, idleSeconds: 1 };
/** A crowd that keeps eight requests under way, then single ones, then nothing. */
const arrivals: readonly Arrival[] = [
  ...Array.from({ length: 66 }, (_, index) => ({ second: 1 + index * 0.075, serviceMs: 600 })),
  ...Array.from({ length: 12 }, (_, index) => ({ second: 7 + index * 0.5, serviceMs: 100 })),
];
const seconds = 18;
const lookMs = 50;

interface Seen {
  readonly wakes: number;
  readonly most: number;
  readonly instanceSeconds: number;
  readonly left: number;
}

t.test('a simulated edgepoint has as many instances as a real one', async (t) => {
  const world = await openFaultWorld(t);
  const [edgepoint] = world.edgepoints;
  if (edgepoint === undefined) throw new Error('a world without an edgepoint');
  const provider = await world.newProvider('ada');
  const scale = `[scale]\nconcurrency = ${shape.concurrency}\nmax = ${shape.max}\nidleSeconds = ${shape.idleSeconds}\n`;
  await provider.deploy(writeApp(world.folder, 'crowded', { server, manifest: scale }));
  await asleep(world);

  const metrics = join(world.held.description.runFolder, 'daemons', `${edgepoint.edgepoint}-head`, 'health.sock');
  const instancesNow = async (): Promise<number> => {
    const { body } = await ask({ socketPath: metrics, path: '/metrics' });
    const counts = [...body.matchAll(/^edgepoint_instances\{[^}]*mode="(\w+)"[^}]*\} (\d+)$/gm)];
    if (counts.length === 0) throw new Error(`no counts of instances in: ${body.slice(0, 500)}`);
    return counts.reduce((sum, [, mode, count]) => sum + (mode === 'asleep' || mode === 'failed' ? 0 : Number(count)), 0);
  };
  const real = await liveForReal((ms) => ask({ host: edgepoint.ipv4, name: 'crowded.edge.test', path: `/${ms}` }), instancesNow);
  t.same(real.lost, [], 'no request was lost');

  const app: SimulatedApp = {
    provider: 'ada',
    name: 'crowded',
    offering: 'small',
    ...shape,
    meanServiceMs: 0,
    cpuMs: 1,
    answerBytes: 4,
    residentBytes: 60 * bytesPerMebibyte,
    imageBytes: 11 * bytesPerMebibyte,
    restBytes: 2 * bytesPerMebibyte,
    restoreMs: real.firstWaitMs,
    coldBootMs: 1000,
    rateAt: () => 0,
    meanRate: 0,
    peakRate: 0,
  };
  const day = await liveOneDay({ apps: [app], arrivals: () => arrivals, seconds, stretchSeconds: 0.5, capacityBytes: 24 * bytesPerGibibyte, frozenBytes: 0, fixed: null });
  const simulated: Seen = {
    wakes: day.wakes,
    most: day.peakInstances,
    instanceSeconds: day.stretches.reduce((sum, stretch) => sum + stretch.instances * stretch.seconds, 0),
    left: Math.round(day.stretches.at(-1)?.instances ?? 0),
  };
  const wakes = (await provider.usage('crowded'))?.wakes ?? 0;
  t.comment(`restore ${formatMs(real.firstWaitMs)}; instance seconds: simulated ${simulated.instanceSeconds.toFixed(1)}, real ${real.instanceSeconds.toFixed(1)}`);
  t.comment(`most at once: simulated ${simulated.most}, real ${real.most}; wakes: simulated ${simulated.wakes}, real ${wakes}`);
  // On a busy machine answers take longer, and more are under way at once.
  t.ok(wakes < 2 * simulated.wakes, `wakes: simulated ${simulated.wakes}, real ${wakes}`);
  t.ok(Math.abs(simulated.most - real.most) <= 1, `most at once: simulated ${simulated.most}, real ${real.most}`);
  const ratio = real.instanceSeconds / simulated.instanceSeconds;
  t.ok(ratio > 0.6 && ratio < 1.6, `instance seconds, real over simulated: ${ratio.toFixed(2)}`);
  t.same([simulated.left, real.left], [0, 0], 'all sleep in the end');
});

/** Sends the requests at their times whatever becomes of the ones before, and looks at the edgepoint meanwhile. */
async function liveForReal(send: (ms: number) => ReturnType<typeof ask>, instancesNow: () => Promise<number>): Promise<Omit<Seen, 'wakes'> & { lost: string[]; firstWaitMs: number }> {
  const beganMs = performance.now();
  const lost: string[] = [];
  let firstWaitMs = 0;
  const answers = arrivals.map(async ({ second, serviceMs }, index) => {
    await new Promise((resolve) => setTimeout(resolve, second * 1000 - (performance.now() - beganMs)));
    const askedMs = performance.now();
    const answer = await send(serviceMs);
    if (index === 0) firstWaitMs = performance.now() - askedMs - serviceMs;
    if (answer.status !== 200) lost.push(`${answer.status} ${answer.error}`);
  });
  let most = 0;
  let instanceSeconds = 0;
  let left = 0;
  let lookedMs = beganMs;
  while (performance.now() - beganMs < seconds * 1000) {
    await new Promise((resolve) => setTimeout(resolve, lookMs));
    left = await instancesNow();
    instanceSeconds += (left * (performance.now() - lookedMs)) / 1000;
    lookedMs = performance.now();
    most = Math.max(most, left);
  }
  await Promise.all(answers);
  return { most, instanceSeconds, left, lost, firstWaitMs };
}
