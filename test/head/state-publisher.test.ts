import fc from 'fast-check';
import t from 'tap';
import { openStatePublisher } from '../../edgepoint/head/state-publisher.ts';
import type { StatePublisher } from '../../edgepoint/head/state-publisher.ts';
import { PublishedStates } from '../../kit/published-states.ts';
import { appStateMessage, edgepointStateMessage } from '../../kit/wire/edgepoint-state.ts';
import type { AppStateEntry } from '../../kit/wire/edgepoint-state.ts';
import { encodeMessage } from '../../kit/wire/version.ts';

const site = 'z.e';
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A bucket: the newest entry of each key, in the order of places. `fate` decides of each put. */
class Bucket {
  entries = new Map<string, { place: number; text: string | null }>();
  place = 0;
  up = true;
  fate: () => 'stored' | 'lost' | 'stored, but not told' = () => 'stored';
  listeners = new Set<(key: string, text: string | null) => void>();
  puts: string[] = [];

  async put(key: string, text: string | null): Promise<number> {
    await settle();
    const fate = this.fate();
    if (!this.up || fate === 'lost') throw new Error('away');
    this.place += 1;
    this.entries.set(key, { place: this.place, text });
    this.puts.push(key);
    for (const listener of this.listeners) listener(key, text);
    if (fate !== 'stored') throw new Error('no answer');
    return this.place;
  }

  async placeOf(key: string): Promise<number | null> {
    await settle();
    if (!this.up) throw new Error('away');
    return this.entries.get(key)?.place ?? null;
  }
}

/** An edgepoint: its apps by name, each with a release that only grows. */
class Edgepoint {
  readonly bucket: Bucket;
  apps = new Map<string, number>();
  load = 0;
  epochs = 0;
  timers = new Set<() => void>();
  publisher!: StatePublisher;

  constructor(bucket: Bucket) {
    this.bucket = bucket;
    this.restart();
  }

  /** As after kill -9: nothing is said at the end, and what the last one had under way is as good as lost. */
  restart(): void {
    this.timers.clear();
    const timers = this.timers = new Set();
    const isOurs = (): boolean => this.timers === timers;
    const keyOf = (app: string | null): string => (app === null ? site : `${site}.${app}`);
    this.publisher = openStatePublisher({
      apps: () => this.apps.keys(),
      describeApp: (app, epoch) => {
        const release = this.apps.get(app);
        return release === undefined ? null : appText(app, release, epoch);
      },
      describeSelf: (epoch, complete) => selfText(this.load, epoch, complete),
      put: (app, text) => (isOurs() ? this.bucket.put(keyOf(app), text) : Promise.reject(new Error('killed'))),
      placeOf: (app) => this.bucket.placeOf(keyOf(app)),
      newEpoch: () => `epoch ${(this.epochs += 1)}`,
      wakeIn: (_ms, callback) => {
        timers.add(callback);
        return () => timers.delete(callback);
      },
      onFault: () => undefined,
    });
    this.publisher.begin();
  }

  /** Time passes: whatever waits for it happens. */
  pass(): void {
    const due = [...this.timers];
    this.timers.clear();
    for (const callback of due) callback();
  }

  /** As much as one look at the bus and the puts of some apps take. */
  async aWhile(): Promise<void> {
    for (let turn = 0; turn < 8; turn += 1) await settle();
    this.pass();
    for (let turn = 0; turn < 8; turn += 1) await settle();
  }

  async untilQuiet(): Promise<void> {
    for (let calm = 0; calm < 12; calm += 1) {
      await settle();
      if (this.timers.size === 0) continue;
      this.pass();
      calm = 0;
    }
  }
}

function appText(owner: string, release: number, epoch: string): string {
  const [provider = '', scope = '', app = ''] = owner.split('.');
  return encodeMessage(appStateMessage, { provider, scope, app, release, status: 'ready', wakeBy: 'template', state: 'template', instances: {}, epoch });
}

function selfText(load: number, epoch: string, complete: boolean): string {
  return encodeMessage(edgepointStateMessage, { zone: 'z', edgepoint: 'e', bootId: 'b', ipv4: '', ipv6: '', latitude: 0, longitude: 0, load, capacityBytes: 1, accepting: true, epoch, complete });
}

const fresh = (): PublishedStates<AppStateEntry> => new PublishedStates((entry) => entry);
const seenBy = (states: PublishedStates<AppStateEntry>): unknown => ({
  load: states.edgepoint(site)?.load,
  apps: Object.fromEntries([...states.apps(site)].map(([owner, { release }]) => [owner, release]).toSorted()),
});
/** The dumb twin: the whole state as one object. */
const wholeOf = (edgepoint: Edgepoint): unknown => ({ load: edgepoint.load, apps: Object.fromEntries([...edgepoint.apps].toSorted()) });

t.test('work goes with what has changed', async (t) => {
  const bucket = new Bucket();
  const edgepoint = new Edgepoint(bucket);
  for (let number = 0; number < 5000; number += 1) edgepoint.apps.set(`p.main.a${number}`, 1);
  for (const app of edgepoint.apps.keys()) edgepoint.publisher.changed(app);
  await edgepoint.untilQuiet();
  t.equal(bucket.puts.length, 5002, 'each app once, and itself before and after');
  bucket.puts = [];
  edgepoint.apps.set('p.main.a7', 2);
  edgepoint.apps.delete('p.main.a8');
  for (const app of ['p.main.a7', 'p.main.a8', 'p.main.a9', 'p.main.never']) edgepoint.publisher.changed(app);
  await edgepoint.untilQuiet();
  t.strictSame(bucket.puts.toSorted(), ['z.e.p.main.a7', 'z.e.p.main.a8'], 'what is as it was is not put');
  bucket.puts = [];
  edgepoint.load = 0.5;
  edgepoint.publisher.changed(null);
  await edgepoint.publisher.stop();
  await edgepoint.publisher.stop();
  t.strictSame(bucket.puts, ['z.e'], 'and at the end what waits is put, once');
});

t.test('a restart leaves nothing of what had gone, and hides nothing while it says all again', async (t) => {
  const bucket = new Bucket();
  const edgepoint = new Edgepoint(bucket);
  const live = fresh();
  bucket.listeners.add((key, text) => live.take(key, text));
  for (const app of ['p.main.a', 'p.main.b', 'p.main.c']) {
    edgepoint.apps.set(app, 1);
    edgepoint.publisher.changed(app);
  }
  await edgepoint.untilQuiet();
  edgepoint.apps.delete('p.main.b');
  const hidden: string[] = [];
  bucket.listeners.add(() => {
    for (const app of ['p.main.a', 'p.main.c']) if (live.app(site, app) === null) hidden.push(app);
  });
  edgepoint.restart();
  await edgepoint.untilQuiet();
  t.strictSame(hidden, []);
  t.ok(bucket.entries.has('z.e.p.main.b'), 'nobody has deleted it');
  t.strictSame(seenBy(live), wholeOf(edgepoint));
  const late = fresh();
  for (const [key, { text }] of bucket.entries) late.take(key, text);
  t.strictSame(seenBy(late), wholeOf(edgepoint));
});

t.test('a bus that lost what was said is told all again; one that lost nothing is not', async (t) => {
  const bucket = new Bucket();
  const edgepoint = new Edgepoint(bucket);
  for (const app of ['p.main.a', 'p.main.b']) {
    edgepoint.apps.set(app, 1);
    edgepoint.publisher.changed(app);
  }
  await edgepoint.untilQuiet();
  bucket.puts = [];
  edgepoint.publisher.wake();
  await edgepoint.untilQuiet();
  t.strictSame(bucket.puts, []);
  bucket.entries.clear();
  edgepoint.publisher.wake();
  await edgepoint.untilQuiet();
  t.equal(bucket.puts.length, 4);
  t.equal(edgepoint.epochs, 2);
});

t.test('an entry that cannot be used leaves the last good one', (t) => {
  const states = fresh();
  states.take(site, selfText(0, 'e', true));
  states.take('z.e.p.main.a', appText('p.main.a', 1, 'e'));
  for (const [key, text] of [
    ['z.e.p.main.a', '{"v":"9.0"}'],
    ['z.e.p.main.a', appText('p.main.b', 2, 'e')],
    ['z.e', selfText(0, 'e', true).replace('"e"', '"other"')],
    ['z.e.p', appText('p.main.a', 2, 'e')],
    ['z', selfText(0, 'e', true)],
  ] as const) t.not(states.take(key, text), '', `refused: ${key} ${text}`);
  t.strictSame(seenBy(states), { load: 0, apps: { 'p.main.a': 1 } });
  states.take(site, null);
  t.strictSame([states.edgepoint(site), states.app(site, 'p.main.a'), [...states.sites()]], [null, null, []], 'without a word of itself an edgepoint has no apps');
  states.take('z.e.p.main.a', null);
  t.end();
});

type Step =
  | { readonly kind: 'set' | 'remove'; readonly app: string }
  | { readonly kind: 'load'; readonly load: number }
  | { readonly kind: 'restart' | 'down' | 'up' | 'pass' | 'turn' | 'while' | 'copy' | 'lose' };

const app = fc.constantFrom('p.main.a', 'p.main.b', 'p.main.c', 'p.main.d', 'q.main.a');
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constantFrom('set' as const, 'remove' as const), app }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('load' as const), load: fc.nat(3) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('restart' as const, 'down' as const, 'up' as const, 'copy' as const, 'lose' as const) }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constantFrom('pass' as const, 'turn' as const, 'while' as const) }) },
);

t.test('whatever happens, in the end what is put together of the entries is the whole: for who heard all, in any order, and for who comes late', async (t) => {
  const releases = { next: 1 };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), fc.array(fc.nat(7), { minLength: 1, size: 'max', maxLength: 50 }), fc.array(fc.nat(), { minLength: 1 }), async (steps, fates, order) => {
      const bucket = new Bucket();
      let at = 0;
      bucket.fate = () => (['lost', 'stored, but not told'] as const)[fates[(at += 1) % fates.length] ?? 7] ?? 'stored';
      const live = fresh();
      /** Releases grow, so an app that goes back by one was mixed up with an older one: nothing but a bus that lost something may do that. */
      const newest = new Map<string, number>();
      const mixedUp: string[] = [];
      bucket.listeners.add((key, text) => {
        live.take(key, text);
        for (const [owner, { release }] of live.apps(site)) {
          if (release < (newest.get(owner) ?? 0)) mixedUp.push(owner);
          newest.set(owner, release);
        }
      });
      const edgepoint = new Edgepoint(bucket);
      let copy: Pick<Bucket, 'entries' | 'place'> = { entries: new Map(), place: 0 };
      for (const one of steps) {
        if (one.kind === 'set') {
          edgepoint.apps.set(one.app, (releases.next += 1));
          edgepoint.publisher.changed(one.app);
        } else if (one.kind === 'remove') {
          edgepoint.apps.delete(one.app);
          edgepoint.publisher.changed(one.app);
        } else if (one.kind === 'load') {
          edgepoint.load = one.load;
          edgepoint.publisher.changed(null);
        } else if (one.kind === 'restart') edgepoint.restart();
        else if (one.kind === 'down') bucket.up = false;
        else if (one.kind === 'up') {
          bucket.up = true;
          edgepoint.publisher.wake();
        } else if (one.kind === 'pass') edgepoint.pass();
        else if (one.kind === 'turn') await settle();
        else if (one.kind === 'while') await edgepoint.aWhile();
        else if (one.kind === 'copy') copy = { entries: new Map(bucket.entries), place: bucket.place };
        else if (one.kind === 'lose') {
          // The bus is put back from the copy, and whoever watches reads it anew.
          Object.assign(bucket, { entries: new Map(copy.entries), place: copy.place, up: false });
          for (const owner of ['p.main.a', 'p.main.b', 'p.main.c', 'p.main.d', 'q.main.a']) live.take(`${site}.${owner}`, copy.entries.get(`${site}.${owner}`)?.text ?? null);
          live.take(site, copy.entries.get(site)?.text ?? null);
          newest.clear();
        }
      }
      bucket.up = true;
      bucket.fate = () => 'stored';
      edgepoint.publisher.wake();
      await edgepoint.untilQuiet();
      const whole = JSON.stringify(wholeOf(edgepoint));
      const late = fresh();
      const entries = [...bucket.entries];
      for (let left = entries.length, turn = 0; left > 0; left -= 1, turn += 1) {
        for (const [key, { text }] of entries.splice((order[turn % order.length] ?? 0) % left, 1)) late.take(key, text);
      }
      if (mixedUp.length > 0) throw new Error(`older than before: ${mixedUp.join(', ')}`);
      if (JSON.stringify(seenBy(live)) !== whole) throw new Error(`who heard all sees ${JSON.stringify(seenBy(live))}, not ${whole}`);
      if (JSON.stringify(seenBy(late)) !== whole) throw new Error(`who comes late sees ${JSON.stringify(seenBy(late))}, not ${whole}`);
    }),
    { numRuns: 500 },
  );
  t.pass();
});
