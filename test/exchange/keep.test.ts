import t from 'tap';
import { openStoreKeeper } from '../../edgepoint/exchange/keep.ts';
import type { Storable, Stored } from '../../edgepoint/exchange/plan.ts';
import { Failure } from '../../kit/errors.ts';

const template = (number: number): Storable => ({
  app: `p.main.a${number}`, provider: 'p', release: 1, name: `name-${number}`, bytes: 10, serves: true, sites: [], offDisk: false,
});

/** A store, what the records say of it, and what was asked and told. */
function openStore(templates: readonly Storable[], failing: ReadonlySet<string>) {
  const recorded = new Map<string, Stored>();
  const there = new Set<string>();
  const told: string[][] = [];
  let reads = 0;
  let retries = 0;
  const left = [...templates];
  const keeper = openStoreKeeper({
    records: {
      templates: () => Promise.reject(new Error('not asked')),
      stored: () => {
        reads += 1;
        return Promise.resolve([...recorded.values()]);
      },
      saveStored: (stored) => Promise.resolve(void recorded.set(stored.name, stored)),
      forgetStored: (name) => Promise.resolve(void recorded.delete(name)),
    },
    limits: { bytesMax: 2 ** 30, providerBytesMax: 2 ** 30 },
    templates: () => Promise.resolve(left),
    offerOf: ({ app, name }) => {
      const [provider = '', scope = '', short = ''] = app.split('.');
      return Promise.resolve({ owner: { provider, scope, app: short }, release: 1, snapshotPath: `/snapshots/${name}`, imageBytes: 10, coldBootMs: 1 } as never);
    },
    onChange: (stored) => void told.push(stored.filter(({ whole }) => whole).map(({ name }) => name)),
    later: () => {
      retries += 1;
      return () => undefined;
    },
    objects: {
      put: async (_object, { id }) => {
        if (failing.has(id)) throw new Failure('snapshot-gone', 'nothing lies there');
        there.add(id);
      },
      drop: (_object, id) => Promise.resolve(void there.delete(id)),
      clear: () => Promise.resolve(),
      find: () => Promise.resolve(null),
    },
    calls: { offer: () => Promise.resolve({ text: '' }), readSealed: () => Promise.resolve({ base64: '' }) } as never,
    discard: () => Promise.resolve(),
    warn: () => undefined,
  });
  return { keeper, recorded, there, told, left, reads: () => reads, retries: () => retries };
}

async function until(met: () => boolean): Promise<void> {
  while (!met()) await new Promise((resolve) => setTimeout(resolve, 1));
}

t.test('with many templates the records are read for each plan, not for each step, and only what lies there whole is told', async (t) => {
  const all = Array.from({ length: 50 }, (_, number) => template(number));
  const failing = new Set(all.filter((_, number) => number % 5 === 0).map(({ name }) => name));
  const store = openStore(all, failing);
  store.keeper.settle();
  await until(() => store.retries() === 1);
  t.equal(store.reads(), 2, 'once for whether the store is known, once for the plan');
  t.equal(store.there.size, 40);
  t.equal(store.told.length, 40, 'a put that failed changes nothing for who reads');
  t.strictSame(new Set(store.told.at(-1)), store.there);
  t.strictSame(new Set([...store.recorded.values()].filter(({ whole }) => !whole).map(({ name }) => name)), failing);

  failing.clear();
  store.left.splice(0, 1);
  store.keeper.settle();
  await until(() => store.told.length === 49);
  t.equal(store.reads(), 3);
  t.equal(store.there.size, 49, 'what failed is put, and what is no longer wanted is not');
  t.strictSame(new Set(store.told.at(-1)), store.there);

  store.left.splice(0, 10);
  store.keeper.settle();
  await until(() => store.told.length === 59);
  t.equal(store.there.size, 39, 'what is gone is removed');
  t.strictSame(new Set(store.recorded.keys()), store.there);
  await store.keeper.stop();
});
