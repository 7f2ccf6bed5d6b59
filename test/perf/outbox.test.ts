import { createClient } from '@libsql/client';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openOutbox, usageTables } from '../../edgepoint/perf/outbox.ts';
import { startShipper } from '../../edgepoint/perf/shipper.ts';
import type { WaitingRecord } from '../../edgepoint/perf/shipper.ts';
import { addSample, addStorage, beginUsage, makeRecord } from '../../edgepoint/perf/usage.ts';
import type { UsageState } from '../../edgepoint/perf/usage.ts';
import { usageMessage } from '../../kit/wire/usage.ts';
import { parseMessage } from '../../kit/wire/version.ts';

const owner = { provider: 'acme', scope: 'main', app: 'shop' };
const site = { zone: 'north', edgepoint: 'north-1' };

function begin(instance: string): UsageState {
  const state = beginUsage({ instance, owner, release: 1, item: '', bootId: 'boot-1', bootNs: 0, restored: true });
  return addSample(state, { bootNs: 1e9, cpuNs: 5, memoryBytes: 7 });
}

function next(state: UsageState, final = false) {
  const made = makeRecord(state, { site, bootNs: 2e9, wallMs: 3, final });
  return { state: made.state, entry: { record: made.record, state: final ? null : made.state } };
}

async function openFresh(t: { teardown(clean: () => void): void }) {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-test-outbox-'));
  const client = createClient({ url: `file:${join(folder, 'head.db')}` });
  t.teardown(() => {
    client.close();
    rmSync(folder, { recursive: true, force: true });
  });
  await client.batch([...usageTables], 'write');
  return openOutbox(client);
}

t.test('the outbox holds the newest record of each instance, and the states to go on from', async (t) => {
  const outbox = await openFresh(t);
  const first = next(begin('i-1'));
  const second = next(first.state);
  const other = next(begin('i-2'));
  await outbox.put([first.entry, other.entry]);
  await outbox.put([second.entry]);
  await outbox.put([first.entry]);
  t.strictSame((await outbox.waiting(10)).map(({ id, subject }) => [id, subject]), [
    ['i-1/2', 'usage.north.north-1.acme.main.shop'],
    ['i-2/1', 'usage.north.north-1.acme.main.shop'],
  ]);
  t.strictSame(await outbox.seeds(), [second.state, other.state], 'a state comes back as it was');
  t.match(parseMessage(usageMessage, (await outbox.waiting(1))[0]?.text ?? ''), { ok: true, value: second.entry.record });
  const last = next(second.state, true);
  await outbox.put([last.entry]);
  t.strictSame((await outbox.seeds()).map(({ instance }) => instance), ['i-2'], 'an ended instance is not gone on with');
});

t.test('a record that says of nothing but a beginning is not sent, but gone on from; its end is sent', async (t) => {
  const outbox = await openFresh(t);
  const begun = next(beginUsage({ instance: 'storage:x', owner, release: 1, item: 'template-1', bootId: 'boot-1', bootNs: 2e9, restored: false }));
  await outbox.put([begun.entry]);
  t.strictSame(await outbox.waiting(10), []);
  t.strictSame(await outbox.seeds(), [begun.state]);
  const used = next(addStorage(addStorage(begun.state, 1000, 2e9), 1000, 3e9));
  await outbox.put([used.entry]);
  t.strictSame((await outbox.waiting(10)).map(({ id }) => id), ['storage:x/2'], 'with the totals since the beginning');
  t.equal(used.entry.record.totals.storageByteSeconds, 1000);

  const ended = next(beginUsage({ instance: 'i-1', owner, release: 1, item: '', bootId: 'boot-1', bootNs: 2e9, restored: false }), true);
  await outbox.put([ended.entry]);
  t.strictSame((await outbox.waiting(10)).map(({ id }) => id), ['storage:x/2', 'i-1/1']);
});

t.test('a row that was replaced while its record was on its way stays', async (t) => {
  const outbox = await openFresh(t);
  const first = next(begin('i-1'));
  await outbox.put([first.entry]);
  const sent = await outbox.waiting(10);
  await outbox.put([next(first.state).entry]);
  await outbox.remove(sent);
  t.strictSame((await outbox.waiting(10)).map(({ id }) => id), ['i-1/2']);
  await outbox.remove(await outbox.waiting(10));
  t.strictSame(await outbox.waiting(10), []);
});

/** An outbox in memory, and a bus that can be away. */
function away() {
  const rows: WaitingRecord[] = [];
  const bus = { up: true, sent: [] as string[] };
  const faults: unknown[] = [];
  const shipper = startShipper({
    outbox: {
      waiting: async (rowsMax) => rows.slice(0, rowsMax),
      remove: async (sent) => void rows.splice(0, rows.length, ...rows.filter((row) => !sent.includes(row))),
    },
    append: async (_subject, _text, id) => {
      if (!bus.up) throw new Error('bus-away');
      bus.sent.push(id);
    },
    onFault: (failure) => faults.push(failure),
  });
  const add = (id: string): void => void rows.push({ instance: id, sequence: 1, id, subject: 's', text: 't' });
  return { rows, bus, faults, shipper, add };
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!holds() && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 2));
}

t.test('records are sent once each, in order, and kept while the bus is away', async (t) => {
  const { rows, bus, faults, shipper, add } = away();
  for (let place = 0; place < 200; place += 1) add(`i-${place}/1`);
  shipper.wake();
  shipper.wake();
  await until(() => rows.length === 0);
  t.strictSame(bus.sent, Array.from({ length: 200 }, (_, place) => `i-${place}/1`));
  bus.up = false;
  add('late/1');
  shipper.wake();
  await until(() => faults.length > 0);
  t.equal(rows.length, 1, 'kept');
  bus.up = true;
  await until(() => rows.length === 0);
  t.equal(bus.sent.at(-1), 'late/1', 'tried again by itself');
  await shipper.stop();
});

t.test('nothing waits: no timer; the bus came back: sent at once', async (t) => {
  const { rows, bus, faults, shipper, add } = away();
  bus.up = false;
  add('i-1/1');
  shipper.wake();
  await until(() => faults.length === 4);
  bus.up = true;
  const began = performance.now();
  shipper.wake();
  await until(() => rows.length === 0);
  t.ok(performance.now() - began < 500, 'without waiting for the next try, seconds away');
  t.notOk(process.getActiveResourcesInfo().includes('Timeout'));
  await shipper.stop();
});
