import type { Test } from 'tap';
import { asleep, until } from './fault-world.ts';
import type { FaultWorld, Provider } from './fault-world.ts';
import { readKernelCounters } from './kernel-counters.ts';
import type { UsageRecord } from '../../../kit/wire/usage.ts';

export type Totals = UsageRecord['totals'];

/** The only app of a world that runs. */
export interface Measured {
  readonly provider: Provider;
  readonly app: string;
}

export interface Run {
  readonly kernel: { cpuNs: number; memoryByteSeconds: number };
  readonly billed: Totals;
}

/** What a run of the only app of a world used, by the kernel and by the ledger. It begins and ends asleep. */
export async function measure(t: Test, world: FaultWorld, { provider, app }: Measured, work: () => Promise<void>): Promise<Run> {
  await asleep(world);
  const before = await atRest({ provider, app });
  const reader = await readKernelCounters(t, world.id);
  await work();
  await asleep(world);
  const { cpuNs, slots } = await reader.finish();
  const after = await atRest({ provider, app });
  const billed = Object.fromEntries(Object.entries(after).map(([name, total]) => [name, total - before[name as keyof Totals]])) as Totals;
  return { kernel: { cpuNs, memoryByteSeconds: Object.values(slots).reduce((sum, slot) => sum + slot.memoryByteSeconds, 0) }, billed };
}

/** Within 1 % of CPU. */
export function agrees(t: Test, { kernel, billed }: Run): void {
  const ratio = billed.cpuNs / kernel.cpuNs;
  t.comment(`CPU: billed ${(billed.cpuNs / 1e6).toFixed(1)} ms, counted by the kernel ${(kernel.cpuNs / 1e6).toFixed(1)} ms, ratio ${ratio.toFixed(4)}`);
  t.comment(`memory: billed ${(billed.memoryByteSeconds / 2 ** 20).toFixed(0)} MiB s, read from outside ${(kernel.memoryByteSeconds / 2 ** 20).toFixed(0)} MiB s`);
  // Looked at once a second by one and every 20 ms by the other, over wakes of about two seconds.
  t.ok(Math.abs(billed.memoryByteSeconds / kernel.memoryByteSeconds - 1) < 0.3, 'memory agrees as well as samples of a second can');
  t.ok(Math.abs(ratio - 1) < 0.01, `billed is ${((ratio - 1) * 100).toFixed(2)} % off`);
}

/** The totals once no new record has come for a while; storage goes on by itself and is left out. */
export async function atRest({ provider, app }: Measured): Promise<Totals> {
  let last = '';
  let totals: Totals | null = null;
  let sinceMs = performance.now();
  await until('the ledger is at rest', async () => {
    totals = await provider.usage(app).catch(() => null);
    const now = totals === null ? '' : JSON.stringify({ ...totals, storageByteSeconds: 0 });
    if (now !== last) sinceMs = performance.now();
    last = now;
    return now !== '' && performance.now() - sinceMs > 2000;
  }, 40_000, 100);
  if (totals === null) throw new Error('metering knows nothing of it');
  return totals;
}
