import t from 'tap';
import type { Test } from 'tap';
import { ask, asleep, openFaultWorld, until, writeApp } from './fault-world.ts';
import type { FaultWorld, Provider } from './fault-world.ts';
import { readKernelCounters } from './kernel-counters.ts';
import type { UsageRecord } from '../../../kit/wire/usage.ts';

/** What is billed is what the kernel counted, read by another script; also of what happened while the bus was away, once. */

type Totals = UsageRecord['totals'];

const app = 'burner';

t.test('usage and the kernel’s counters', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, app, { manifest: '[scale]\nidleSeconds = 0.3\nmax = 2\nconcurrency = 4\n' }));
  const addresses = world.edgepoints.map(({ ipv4 }) => ipv4);

  await t.test('the usage of a run agrees within 1 % with the kernel’s counters', async (t) => {
    const run = await measure(t, world, ada, async () => {
      for (let round = 0; round < 3; round += 1) {
        const answers = await Promise.all(addresses.flatMap((host) => [1, 2].map(() => ask({ host, name: `${app}.edge.test`, path: '/burn?ms=900' }))));
        t.same(answers.map(({ status }) => status), [200, 200, 200, 200], 'every request is answered');
        await asleep(world);
      }
    });
    agrees(t, run);
    t.equal(run.billed.requests, 12);
    t.ok(run.billed.wakes >= 6, `${run.billed.wakes} wakes`);
  });

  await t.test('it is woken while the bus is away, and what it used is billed once when the bus is back', async (t) => {
    const run = await measure(t, world, ada, async () => {
      await world.kill('nats-server', 'SIGSTOP');
      try {
        for (let round = 0; round < 3; round += 1) {
          const answers = await Promise.all(addresses.map((host) => ask({ host, name: `${app}.edge.test`, path: '/burn?ms=900' })));
          t.same(answers.map(({ status }) => status), [200, 200], 'it is woken and answers without the bus');
          await asleep(world);
        }
      } finally {
        await world.kill('nats-server', 'SIGCONT');
      }
    });
    agrees(t, run);
    t.equal(run.billed.requests, 6);
    t.equal(run.billed.wakes, 6);
  });

  await t.test('the world leaves nothing', (t) => world.stop(t));
});

interface Run {
  readonly kernel: { cpuNs: number; memoryByteSeconds: number };
  readonly billed: Totals;
}

/** What a run of the only app of a world used, by the kernel and by the ledger. It begins and ends asleep. */
async function measure(t: Test, world: FaultWorld, ada: Provider, work: () => Promise<void>): Promise<Run> {
  await asleep(world);
  const before = await atRest(ada);
  const reader = await readKernelCounters(t, world.id);
  await work();
  await asleep(world);
  const { cpuNs, slots } = await reader.finish();
  const after = await atRest(ada);
  const billed = Object.fromEntries(Object.entries(after).map(([name, total]) => [name, total - before[name as keyof Totals]])) as Totals;
  return { kernel: { cpuNs, memoryByteSeconds: Object.values(slots).reduce((sum, slot) => sum + slot.memoryByteSeconds, 0) }, billed };
}

function agrees(t: Test, { kernel, billed }: Run): void {
  const ratio = billed.cpuNs / kernel.cpuNs;
  t.comment(`CPU: billed ${(billed.cpuNs / 1e6).toFixed(1)} ms, counted by the kernel ${(kernel.cpuNs / 1e6).toFixed(1)} ms, ratio ${ratio.toFixed(4)}`);
  t.comment(`memory: billed ${(billed.memoryByteSeconds / 2 ** 20).toFixed(0)} MiB s, read from outside ${(kernel.memoryByteSeconds / 2 ** 20).toFixed(0)} MiB s`);
  // Looked at once a second by one and every 20 ms by the other, over wakes of about two seconds.
  t.ok(Math.abs(billed.memoryByteSeconds / kernel.memoryByteSeconds - 1) < 0.3, 'memory agrees as well as samples of a second can');
  t.ok(Math.abs(ratio - 1) < 0.01, `billed is ${((ratio - 1) * 100).toFixed(2)} % off`);
}

/** The totals once no new record has come for a while; storage goes on by itself and is left out. */
async function atRest(ada: Provider): Promise<Totals> {
  let last = '';
  let totals: Totals | null = null;
  let sinceMs = performance.now();
  await until('the ledger is at rest', async () => {
    totals = await ada.usage(app).catch(() => null);
    const now = totals === null ? '' : JSON.stringify({ ...totals, storageByteSeconds: 0 });
    if (now !== last) sinceMs = performance.now();
    last = now;
    return now !== '' && performance.now() - sinceMs > 2000;
  }, 40_000, 100);
  if (totals === null) throw new Error('metering knows nothing of it');
  return totals;
}
