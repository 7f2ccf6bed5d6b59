import { readFileSync } from 'node:fs';
import { addApps, type Copy, copyOf, openPlace, sealTemplates, untilPublished } from './crowd.ts';
import type { Report } from './report.ts';
import { type Edgepoint, sleeper, type Sleepers, timeToFirstByte, wake, withSleepers } from './sleepers.ts';
import { median, percentile, rounded } from './statistics.ts';

const groups = [1, 5, 25, 100] as const;
const processors = 2;
const tickMs = 10; // USER_HZ (proc(5))
/** Until all of a group sleep again. */
const restMs = { quick: 4000, full: 8000 };

interface Wave {
  readonly size: number;
  readonly ms: number[];
  lost: number;
}

/**
 * Many sleeping apps woken in the same moment: a real world, one request for each of 1, 5, 25 and 100 apps at once. Beside each time
 * stands what a perfect scheduler would need: the processor time of so many wakes, one by one measured, on two processors.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  return withSleepers((sleepers) => measure({ ...sleepers, quick }));
}

async function measure({ description, bus, news, quick }: Sleepers & { quick: boolean }): Promise<Report> {
  const [edgepoint] = description.edgepoints as [Edgepoint];
  const place = await openPlace({ site: edgepoint, dataFolder: edgepoint.dataFolder, bus, owner: sleeper });
  const copies = Array.from({ length: Math.max(...groups) }, (_, number) => copyOf(place, `sleeper-${String(number).padStart(3, '0')}`));
  await addApps(place, copies, news, await sealTemplates(place, copies));
  await untilPublished(place, copies);

  const alone: { ms: number; cpuMs: number }[] = [];
  const first = copies[0] as Copy;
  for (let count = 0; count < (quick ? 8 : 30); count += 1) {
    const beforeMs = busyMs();
    const { tookMs, asleepAgain } = await wake(edgepoint, first, news);
    alone.push({ ms: tookMs, cpuMs: busyMs() - beforeMs });
    await asleepAgain;
  }
  const cpuMs = median(alone.map((one) => one.cpuMs));
  const aloneMs = median(alone.map((one) => one.ms));

  const waves = groups.map((size): Wave => ({ size, ms: [], lost: 0 }));
  const rounds = quick ? 2 : 10;
  for (let round = 0; round < rounds; round += 1) {
    for (const wave of waves) {
      const woken = await Promise.allSettled(copies.slice(0, wave.size).map(({ host }) => timeToFirstByte(edgepoint.ipv4, host)));
      for (const one of woken) {
        if (one.status === 'fulfilled') wave.ms.push(one.value);
        else wave.lost += 1;
      }
      await Bun.sleep(quick ? restMs.quick : restMs.full);
    }
  }
  const perfectMs = (size: number): number => Math.max(aloneMs, (size * cpuMs) / processors);
  const over = (wave: Wave): number => percentile(wave.ms, 0.99) / perfectMs(wave.size);
  return {
    bench: 'wake-many',
    ratios: Object.fromEntries(waves.map((wave) => [`p99OverPerfect${wave.size}`, rounded(over(wave))])),
    figures: { n: rounds, lost: waves.reduce((sum, { lost }) => sum + lost, 0), aloneMsP50: rounded(aloneMs), cpuMsPerWake: rounded(cpuMs) },
    rows: waves.map((wave) => ({
      'apps at once': wave.size,
      n: wave.ms.length,
      lost: wave.lost,
      'p50 ms': rounded(median(wave.ms)),
      'p99 ms': rounded(percentile(wave.ms, 0.99)),
      'a perfect scheduler, ms': rounded(perfectMs(wave.size)),
      'p99 over perfect': rounded(over(wave)),
    })),
    notes: [`The processor time of a wake is the whole machine's while one app is woken alone (p50 of ${alone.length}).`],
  };
}

/** Processor time that anybody used on this machine so far. */
function busyMs(): number {
  const [, ...ticks] = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '').trim().split(/\s+/).map(Number);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softIrq = 0] = ticks;
  return (user + nice + system + irq + softIrq) * tickMs;
}
