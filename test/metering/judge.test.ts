import t from 'tap';
import { usageSubject } from '../../kit/wire/subjects.ts';
import type { UsageRecord } from '../../kit/wire/usage.ts';
import { defaultLimits, judge } from '../../metering/judge.ts';
import type { KnownInstance } from '../../metering/judge.ts';
import { exactTotals } from '../../metering/totals.ts';
import { aRecord, noTotals } from './records.ts';

const known = (changes: Partial<KnownInstance> = {}): KnownInstance => ({
  provider: 'acme', scope: 'main', app: 'shop', release: 1, bootId: 'boot-1', sequence: 5, final: false,
  totals: exactTotals({ ...noTotals, cpuNs: 10e9, requests: 7 }),
  ...changes,
});
const ask = (record: UsageRecord, knownInstance?: KnownInstance, subject = usageSubject(record, record)) =>
  judge(subject, record, knownInstance, undefined, defaultLimits);

t.test('what is refused, one row for each reason', async (t) => {
  const table: { name: string; record: UsageRecord; known?: KnownInstance; subject?: string; code: string; reason: RegExp }[] = [
    { name: 'a name that is two tokens', record: aRecord({ scope: 'main.x' }), code: 'bad-name', reason: /"main\.x"/ },
    { name: 'an instance that a database would not give back', record: aRecord({ instance: 'i-\ud800' }), code: 'bad-name', reason: /instance/ },
    { name: 'an instance without end', record: aRecord({ instance: 'i'.repeat(181) }), code: 'bad-name', reason: /instance/ },
    { name: 'another edgepoint\'s record', record: aRecord(), subject: 'usage.south.south-1.acme.main.shop', code: 'subject-mismatch', reason: /speaks of usage\.north/ },
    { name: 'another provider\'s record', record: aRecord(), subject: 'usage.north.north-1.bolt.main.shop', code: 'subject-mismatch', reason: /bolt/ },
    { name: 'an id of something else', record: aRecord({ id: 'i-2/1' }), code: 'bad-id', reason: /i-2\/1/ },
    { name: 'an end before its beginning', record: aRecord({ fromBootNs: 3e9, toBootNs: 1e9 }), code: 'time-went-back', reason: /2 s before/ },
    { name: 'more cpu than cores', record: aRecord({ totals: { cpuNs: 449e9 } }), code: 'too-much-cpu', reason: /449 CPU seconds in 100 s; at most 448/ },
    { name: 'more memory than there is', record: aRecord({ totals: { memoryByteSeconds: 1e15 } }), code: 'too-much-memory', reason: /memory/ },
    { name: 'more storage than there is', record: aRecord({ totals: { storageByteSeconds: 1e17 } }), code: 'too-much-storage', reason: /storage/ },
    { name: 'a counter without end', record: aRecord({ totals: { requests: 1e19 } }), code: 'too-large', reason: /requests/ },
    { name: 'an instance that changed hands', record: aRecord({ sequence: 6, app: 'blog' }), known: known(), code: 'other-owner', reason: /acme\.main\.blog/ },
    { name: 'another boot', record: aRecord({ sequence: 6, bootId: 'boot-2' }), known: known(), code: 'other-boot', reason: /boot-2/ },
    { name: 'a later record with less', record: aRecord({ sequence: 6, totals: { cpuNs: 9e9, requests: 9 } }), known: known(), code: 'counters-went-back', reason: /cpuNs is 10000000000 at sequence 5 and 9000000000 at sequence 6/ },
    { name: 'an earlier record with more', record: aRecord({ sequence: 4, totals: { cpuNs: 9e9, requests: 9 } }), known: known(), code: 'counters-went-back', reason: /requests is 9 at sequence 4 and 7 at sequence 5/ },
  ];
  for (const row of table) {
    const verdict = ask(row.record, row.known, row.subject);
    t.match(verdict, { kind: 'refuse', code: row.code, reason: row.reason }, row.name);
  }
});

t.test('what is counted', async (t) => {
  t.match(ask(aRecord()), { kind: 'count', instance: { sequence: 1, bootId: 'boot-1' } }, 'the first of an instance');
  t.match(ask(aRecord({ sequence: 9, totals: { cpuNs: 11e9, requests: 7 } }), known()), { kind: 'count', instance: { sequence: 9, totals: { cpuNs: 11_000_000_000n } } });
  const late = ask(aRecord({ sequence: 2, totals: { cpuNs: 1e9 } }), known({ final: true }));
  t.match(late, { kind: 'count', instance: { sequence: 5, final: true, totals: { cpuNs: 10_000_000_000n } } }, 'an earlier record that comes late raises nothing');
  t.match(ask(aRecord({ totals: { cpuNs: 448e9 } })), { kind: 'count' }, 'as much cpu as the margin allows');
});

t.test('the same record again is a repeat; the same id with other totals is refused', async (t) => {
  const record = aRecord({ totals: { cpuNs: 5 } });
  const subject = usageSubject(record, record);
  t.match(judge(subject, record, known(), exactTotals(record.totals), defaultLimits), { kind: 'repeat' });
  t.match(judge(subject, record, known(), exactTotals({ ...noTotals, cpuNs: 4 }), defaultLimits), { kind: 'refuse', code: 'id-reused' });
});

t.test('a wall clock that jumps moves nothing: it is not looked at', async (t) => {
  const later = aRecord({ sequence: 6, totals: { cpuNs: 11e9, requests: 8 } });
  const verdict = ask({ ...later, wallMs: 0 }, known());
  t.same(ask({ ...later, wallMs: 4e12 }, known()), verdict);
  t.match(verdict, { kind: 'count' });
});
