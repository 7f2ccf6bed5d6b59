import fc from 'fast-check';
import type { UsageRecord, UsageTotals } from '../../kit/wire/usage.ts';
import { usageMessage } from '../../kit/wire/usage.ts';
import { usageSubject } from '../../kit/wire/subjects.ts';
import { encodeMessage } from '../../kit/wire/version.ts';
import type { UsageMessage } from '../../metering/ledger.ts';

export const noTotals: UsageTotals = { cpuNs: 0, memoryByteSeconds: 0, bytesIn: 0, bytesOut: 0, requests: 0, wakes: 0, storageByteSeconds: 0 };

/** A record that is right in every way, but for what a test says of it. */
export function aRecord(changes: Partial<Omit<UsageRecord, 'totals'>> & { totals?: Partial<UsageTotals> } = {}): UsageRecord {
  const instance = changes.instance ?? 'i-1';
  const sequence = changes.sequence ?? 1;
  return {
    id: `${instance}/${sequence}`, zone: 'north', edgepoint: 'north-1', provider: 'acme', scope: 'main', app: 'shop', release: 1,
    instance, sequence, bootId: 'boot-1', fromBootNs: 1e9, toBootNs: 101e9, wallMs: 1_700_000_000_000, final: false,
    ...changes,
    totals: { ...noTotals, ...changes.totals },
  };
}

export function messageOf(record: UsageRecord): UsageMessage {
  return { subject: usageSubject(record, record), text: encodeMessage(usageMessage, record) };
}

const growth = fc.record({
  cpuNs: fc.nat(3e9), memoryByteSeconds: fc.nat(1e9), bytesIn: fc.nat(1e6), bytesOut: fc.nat(1e6), requests: fc.nat(100), wakes: fc.nat(1), storageByteSeconds: fc.nat(1e9),
});

/** The whole honest story of one instance: its records in order, the last one final. */
export function storyOf(place: number): fc.Arbitrary<UsageRecord[]> {
  const where = fc.record({ edgepoint: fc.constantFrom('north-1', 'north-2'), provider: fc.constantFrom('acme', 'bolt'), app: fc.constantFrom('shop', 'blog') });
  return fc.tuple(where, fc.array(growth, { minLength: 1, maxLength: 8 })).map(([names, growths]) => {
    let totals = noTotals;
    return growths.map((grown, index) => {
      totals = Object.fromEntries(Object.entries(totals).map(([name, value]) => [name, value + grown[name as keyof UsageTotals]])) as UsageTotals;
      return aRecord({ ...names, instance: `i-${place}`, sequence: index + 1, final: index === growths.length - 1, toBootNs: (index + 2) * 1e9, totals });
    });
  });
}

/** The dumb twin of the ledger: what the last record of each instance says, added up by provider and app. */
export function twin(stories: readonly (readonly UsageRecord[])[]): Map<string, UsageTotals> {
  const sums = new Map<string, UsageTotals>();
  for (const story of stories) {
    const last = story.at(-1);
    if (!last) continue;
    const key = `${last.provider}.${last.scope}.${last.app}`;
    const sum = { ...(sums.get(key) ?? noTotals) };
    for (const name of Object.keys(sum) as (keyof UsageTotals)[]) sum[name] += last.totals[name];
    sums.set(key, sum);
  }
  return sums;
}
