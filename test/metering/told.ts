import { jetstreamManager } from '@nats-io/jetstream';
import { usageQueryMessage, usageReportMessage } from '../../kit/wire/usage.ts';
import type { UsageRecord, UsageReport, UsageTotals } from '../../kit/wire/usage.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import { openBench } from './bench.ts';
import type { Bench } from './bench.ts';
import { aRecord, noTotals } from './records.ts';

export async function withBench(story: (bench: Bench) => Promise<void>): Promise<void> {
  const bench = await openBench();
  try {
    await story(bench);
  } finally {
    await bench.stop();
  }
}

export async function query(bench: Bench, provider: string, app = ''): Promise<UsageReport> {
  const answer = await bench.conduit.request('metering.query', encodeMessage(usageQueryMessage, { provider, app }), { timeout: 5000 });
  const report = parseMessage(usageReportMessage, answer.string());
  if (!report.ok) throw new Error(report.reason);
  return report.value;
}

/** Every message has been delivered and acknowledged. */
export async function consumed(bench: Bench): Promise<boolean> {
  const manager = await jetstreamManager(bench.operator);
  const { num_pending, num_ack_pending } = await manager.consumers.info('USAGE', 'metering');
  return num_pending === 0 && num_ack_pending === 0;
}

export function stories(instances: number, records: number): UsageRecord[][] {
  return Array.from({ length: instances }, (_, place) =>
    Array.from({ length: records }, (_, index) => {
      const totals: UsageTotals = { ...noTotals, cpuNs: (index + 1) * (1000 + place), memoryByteSeconds: (index + 1) * 4096, requests: index, wakes: 1, bytesOut: index * place };
      const app = place % 3 === 0 ? 'blog' : 'shop';
      return aRecord({ app, edgepoint: `north-${place % 2}`, instance: `i-${place}`, sequence: index + 1, final: index === records - 1, totals });
    }),
  );
}
