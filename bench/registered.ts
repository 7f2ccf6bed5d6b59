import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Route } from '../edgepoint/model/calls.ts';
import { openDispatcher } from './local-dispatcher.ts';
import { openChance } from '../simulator/chance.ts';
import type { Report } from './report.ts';
import { median, percentile, rounded } from './statistics.ts';

const apps = 10_000;
const awake = 50;
/** A daemon gives memory back when a burst of work is over (decision 125). */
const quietMs = { quick: 6000, full: 60_000 };
const idleMs = { quick: 5000, full: 30_000 };
const tickMs = 10; // USER_HZ (proc(5))

/**
 * A local dispatcher that knows 10,000 apps, 9,950 of them asleep: its memory for each, how long a change of one route takes, from the order
 * to a held request's first byte, and what it does when nothing happens.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  const backend = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: () => new Response('here') });
  const dispatcher = await openDispatcher();
  const mode = quick ? 'quick' : 'full';
  try {
    const routeOf = (index: number, isAwake: boolean): Route => ({
      owner: { provider: `provider-${index % 100}`, scope: 'main', app: `app-${index}` },
      hosts: [`app-${index}.edge.test`],
      status: 'ready',
      reason: '',
      concurrency: 16,
      holdMs: 60_000,
      instances: isAwake ? [{ instance: `i-${index}`, address: '127.0.0.1', port: backend.port ?? 0 }] : [],
    });
    const isAwake = (index: number): boolean => index % (apps / awake) === 0;
    const table = Array.from({ length: apps }, (_, index) => routeOf(index, isAwake(index)));
    // What the first requests bring in (code, buffers) is not the apps'.
    await dispatcher.routes(table.slice(0, 100));
    for (let warm = 0; warm < 200; warm += 1) await firstByteAfter(dispatcher.port, 'app-0.edge.test', () => undefined);
    await Bun.sleep(quietMs[mode]);
    const beforeBytes = ownBytes(dispatcher.pid);
    for (const route of table.slice(100)) await dispatcher.route(route);
    await Bun.sleep(quietMs[mode]);
    const bytesPerApp = (ownBytes(dispatcher.pid) - beforeBytes) / (apps - 100);

    const ticks = cpuTicks(dispatcher.pid);
    await Bun.sleep(idleMs[mode]);
    const idleCpuMsPerSecond = ((cpuTicks(dispatcher.pid) - ticks) * tickMs) / (idleMs[mode] / 1000);

    const chance = openChance(1);
    const anyone = (): number => Math.floor(chance() * apps);
    const changes: number[] = [];
    for (let change = 0; change < (quick ? 1000 : 10_000); change += 1) {
      const index = anyone();
      const begunMs = performance.now();
      await dispatcher.route(routeOf(index, !isAwake(index)));
      changes.push(performance.now() - begunMs);
      await dispatcher.route(routeOf(index, isAwake(index)));
    }
    const answers: number[] = [];
    for (let held = 0; held < (quick ? 100 : 1000); held += 1) {
      const index = anyone();
      if (isAwake(index)) continue;
      const name = `app-${index}`;
      dispatcher.demands.delete(name);
      let orderedMs = 0;
      const endMs = await firstByteAfter(dispatcher.port, `${name}.edge.test`, async () => {
        while ((dispatcher.demands.get(name)?.waiting ?? 0) === 0) await Bun.sleep(1);
        orderedMs = performance.now();
        await dispatcher.route(routeOf(index, true));
      });
      answers.push(endMs - orderedMs);
      await dispatcher.route(routeOf(index, false));
    }
    return {
      bench: 'registered',
      ratios: {},
      figures: {
        apps,
        bytesPerApp: rounded(bytesPerApp, 0),
        routeChangeMsP50: rounded(median(changes), 3),
        routeChangeMsP99: rounded(percentile(changes, 0.99), 3),
        heldToFirstByteMsP50: rounded(median(answers), 3),
        heldToFirstByteMsP99: rounded(percentile(answers, 0.99), 3),
        idleCpuMsPerSecond: rounded(idleCpuMsPerSecond),
      },
      rows: [
        { 'with 10,000 apps': 'a route changes: from the order to its answer', n: changes.length, 'p50 ms': rounded(median(changes), 3), 'p99 ms': rounded(percentile(changes, 0.99), 3) },
        { 'with 10,000 apps': 'a held request: from the order to its first byte', n: answers.length, 'p50 ms': rounded(median(answers), 3), 'p99 ms': rounded(percentile(answers, 0.99), 3) },
      ],
      notes: [`Memory is the dispatcher's own (private resident), ${quietMs[mode] / 1000} s after the last app came.`],
    };
  } finally {
    await dispatcher.close();
    await backend.stop(true);
  }
}

/** Private resident memory (smaps_rollup, proc(5)). */
function ownBytes(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return [...text.matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB$/gm)].reduce((sum, [, kilobytes]) => sum + Number(kilobytes) * 1024, 0);
}

function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

/** Asks on a connection of its own, lets `meanwhile` happen once the request is sent, and resolves with the time of the first byte. */
function firstByteAfter(port: number, host: string, meanwhile: () => unknown): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port }, () => {
      socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      Promise.resolve(meanwhile()).catch(reject);
    });
    socket.setTimeout(10_000, () => socket.destroy(new Error('no answer in 10 s')));
    socket.once('error', reject).once('data', () => {
      const nowMs = performance.now();
      socket.destroy();
      resolve(nowMs);
    });
  });
}
