import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Bus } from '../../host/bus.ts';
import type { Site } from '../../kit/ids.ts';
import { offerObject, snapshotBucket } from '../../kit/wire/subjects.ts';
import { siteA, startNats } from '../host/nats.ts';
import type { NatsWorld } from '../host/nats.ts';
import { startRig, until } from './rig.ts';
import type { Rig, RigOptions } from './rig.ts';

t.setTimeout(240_000);

/** In the same zone as siteA. */
const siteC: Site = { zone: 'north', edgepoint: 'three' };
const both = [siteA, siteC];
const mebibyte = 1024 * 1024;
/** Slow to boot, so that a restore is faster even on a busy machine. */
const manifest = { command: ['serve', '2000'], scale: { idleSeconds: 60 } };
const waitMs = 60_000;

interface Two {
  readonly nats: NatsWorld;
  readonly one: Rig;
  /** Starts the other edgepoint: not before there is something to fetch, so that the story is clear. */
  other(options?: RigOptions): Promise<Rig>;
  readonly reader: Bus;
  readonly operator: Bus;
  /** Waits until the template of a release is offered. */
  offered(app: string, release?: number, holds?: (offer: { name: string; sites: string[] }) => boolean): Promise<{ name: string; sites: string[] }>;
  /** What is in the store of siteA for the other to see. */
  found(app: string, release?: number): ReturnType<Bus['findObject']>;
  /** The store of siteA as the server counts: chunks and descriptions. */
  counted(): Promise<{ messages: number; bytes: number }>;
}

async function openTwo(t: Test, options: RigOptions = {}): Promise<Two> {
  const nats = await startNats(t, both);
  const one = await startRig(t, { nats, site: siteA, ...options });
  const reader = await nats.bus('north.three');
  const operator = await nats.bus('operator');
  const two: Two = {
    nats,
    one,
    reader,
    operator,
    other: (more = {}) => startRig(t, { nats, site: siteC, ...more }),
    offered: async (app, release = 1, holds = () => true) => {
      let offer = { name: '', sites: [] as string[] };
      await until(
        `release ${release} of ${app} is offered`,
        async () => {
          const found = await two.found(app, release);
          if (found === null) return false;
          offer = JSON.parse(found.note) as typeof offer;
          return holds(offer);
        },
        waitMs,
      );
      return offer;
    },
    found: (app, release = 1) => reader.findObject(snapshotBucket(siteA), offerObject({ provider: 'prov', scope: 'main', app }, release)),
    counted: async () => {
      const info = JSON.parse(await operator.request(`$JS.API.STREAM.INFO.OBJ_${snapshotBucket(siteA)}`, '{}', 5000)) as { state: { messages: number; bytes: number } };
      return info.state;
    },
  };
  return two;
}

const texts = (rig: Rig, site: Site, stage: string): string => rig.events.filter((event) => event.edgepoint === site.edgepoint && event.stage === stage).map((event) => event.text).join('\n');
const left = (rig: Rig): string[] => (existsSync(join(rig.folder, 'data/downloads')) ? readdirSync(join(rig.folder, 'data/downloads')) : []);

t.test('an edgepoint that has never run an app has its template of another, and boots nothing', async (t) => {
  const two = await openTwo(t);
  await two.one.deploy('shop', manifest, 1, both);
  t.equal((await two.one.ended('shop')).stage, 'ready');
  const { name } = await two.offered('shop');
  const other = await two.other();
  await other.deploy('shop', manifest, 1, both);
  t.equal((await other.ended('shop')).stage, 'ready');
  t.equal(other.machine.count('boot'), 0, 'it was not booted');
  t.same(other.stages('shop'), ['fetch', 'unpack', 'template', 'trial', 'report', 'sleep', 'ready']);
  t.match(texts(other, siteC, 'template'), /Fetches the template of north\.one.*\n.*north\.one has a template of it: 1000 B, fetched and verified in/);
  t.match(other.events.find((event) => event.edgepoint === 'three' && event.stage === 'report')?.report, { madeBy: 'north.one', wakeBy: 'template', canClone: { can: true } });
  t.ok(existsSync(join(other.folder, `data/snapshots/prov.main.shop/1/${name}`)));
  t.equal((await other.dispatcher.ask('shop')).status, 200);
  t.equal(other.machine.count('boot'), 0);
  t.same(left(other), [], 'what was fetched does not lie about');
  await until('it is published', () => other.state()?.apps[0]?.wakeBy === 'template', waitMs);
});

t.test('one that cannot be used here is known by what it stands on: said so, and prepared here', async (t) => {
  const two = await openTwo(t);
  await two.one.deploy('shop', manifest, 1, both);
  await two.offered('shop');
  const other = await two.other();
  other.machine.refuseOffers = 'it was taken with processor features that are missing here: avx512f';
  await other.deploy('shop', manifest, 1, both);
  t.equal((await other.ended('shop')).stage, 'ready');
  t.match(texts(other, siteC, 'template'), /^The template of north\.one cannot be used here: .* missing here: avx512f\.$/);
  t.equal(other.machine.count('admit'), 0, 'nothing of it was fetched');
  t.equal(other.machine.count('boot'), 1);
  t.equal(other.events.find((event) => event.edgepoint === 'three' && event.stage === 'report')?.report?.madeBy, '');
});

t.test('what an edgepoint does not host it neither offers its key for nor takes', async (t) => {
  const two = await openTwo(t);
  await two.one.deploy('alone', manifest, 1, [siteA]);
  t.same((await two.offered('alone')).sites, []);
  await two.one.deploy('alone', manifest, 1, both);
  t.same((await two.offered('alone', 1, (offer) => offer.sites.length > 0)).sites, ['north.three'], 'an edgepoint added later is added to the offer');
  t.equal(two.one.machine.count('boot'), 1, 'and nothing is prepared again for it');
  const other = await two.other();
  await other.deploy('alone', manifest, 1, [siteC]);
  t.equal((await other.ended('alone')).stage, 'ready');
  t.equal(other.machine.count('weigh'), 0, 'an edgepoint that does not host it is not asked');
  for (const kind of [{ state: 'keep' }, { volume: [{ name: 'data', path: '/data', sizeMegabytes: 8 }] }]) {
    const app = Object.keys(kind)[0] ?? '';
    await two.one.deploy(app, { ...manifest, ...kind }, 1, both);
    t.equal((await two.one.ended(app)).stage, 'ready');
  }
  await two.one.deploy('last', manifest, 1, both);
  await two.offered('last');
  for (const app of ['state', 'volume']) t.equal(await two.found(app), null, `with a ${app} of its own it stays where it is`);
});

t.test('an object that is cut off or altered is not used, and the app answers all the same', async (t) => {
  const two = await openTwo(t);
  const writer = await two.nats.bus('north.one');
  const rows: Readonly<Record<string, { spoil(bytes: Buffer): Buffer; says: RegExp }>> = {
    cut: { spoil: (bytes) => bytes.subarray(0, 400_000), says: /400000 of 1048576 bytes came/ },
    longer: { spoil: (bytes) => Buffer.concat([bytes, bytes]), says: /longer than the 1048576 bytes/ },
    altered: { spoil: (bytes) => bytes.fill(1, 500, 501), says: /not what was sealed/ },
    empty: { spoil: () => Buffer.alloc(0), says: /of the template that north\.one offers 0 of 1048576 bytes came/ },
  };
  two.one.machine.sealedBytes = mebibyte;
  const other = await two.other();
  for (const [app, { spoil, says }] of Object.entries(rows)) {
    await two.one.deploy(app, manifest, 1, both);
    await two.offered(app);
    const found = await two.found(app);
    if (found === null) throw new Error('it was there just now');
    const spoilt = spoil(Buffer.from(await new Response(found.open()).arrayBuffer()));
    await writer.putNotedObject(snapshotBucket(siteA), offerObject({ provider: 'prov', scope: 'main', app }, 1), { id: 'spoilt', content: () => new Blob([new Uint8Array(spoilt)]).stream(), note: () => Promise.resolve(found.note) });
    await other.deploy(app, manifest, 1, both);
    t.equal((await other.ended(app)).stage, 'ready', app);
    const said = other.events.filter((event) => event.edgepoint === 'three' && event.app === app && event.stage === 'template').at(-1)?.text;
    t.match(said, /The template of north\.one could not be fetched/, app);
    t.match(said, says, app);
    t.equal((await other.dispatcher.ask(app)).status, 200, app);
  }
  t.equal(other.machine.count('boot'), 4, 'each was prepared here');
  t.same(left(other), []);
});

t.test('with the bus away in the middle of a fetch the release is prepared here', async (t) => {
  const two = await openTwo(t);
  two.one.machine.sealedBytes = 64 * mebibyte;
  await two.one.deploy('shop', manifest, 1, both);
  await two.offered('shop');
  const other = await two.other();
  await other.deploy('shop', manifest, 1, both);
  const fetched = join(other.folder, 'data/downloads/prov.main.shop.1.template');
  await until('something of it has come', () => existsSync(fetched) || other.machine.count('admit') > 0, waitMs);
  await two.nats.kill('SIGKILL');
  await until('it is prepared here, or was there already', () => other.machine.count('snapshot') + other.machine.count('admit') > 0, waitMs);
  await until('what had come is gone', () => !existsSync(fetched), waitMs);
  await two.nats.start();
  t.equal((await other.ended('shop')).stage, 'ready');
  t.equal((await other.dispatcher.ask('shop')).status, 200);
});

t.test('an edgepoint killed while it puts a template away, or fetches one, goes on from there and leaves nothing', async (t) => {
  const two = await openTwo(t);
  two.one.machine.sealedBytes = 48 * mebibyte;
  await two.one.deploy('shop', manifest, 1, both);
  await until('some of it is in the store', async () => (await two.counted()).messages > 20, waitMs);
  await two.one.killHead('SIGKILL');
  await two.one.startHead();
  await two.offered('shop');
  const chunks = (48 * mebibyte) / (128 * 1024);
  t.equal((await two.counted()).messages, chunks + 1, 'each chunk once, and what is said of them');

  const other = await two.other();
  await other.deploy('shop', manifest, 1, both);
  const fetched = join(other.folder, 'data/downloads/prov.main.shop.1.template');
  await until('something of it has come', () => existsSync(fetched) || other.machine.count('admit') > 0, waitMs);
  await other.killHead('SIGKILL');
  await other.startHead();
  t.equal((await other.ended('shop')).stage, 'ready');
  t.same(left(other), []);
  t.equal((await other.dispatcher.ask('shop')).status, 200);
});

t.test('the store holds what serves and what is kept for a way back; what is superseded or removed leaves it', async (t) => {
  const two = await openTwo(t);
  two.one.machine.sealedBytes = mebibyte;
  for (const release of [1, 2, 3]) {
    await two.one.deploy('shop', manifest, release, both);
    t.equal((await two.one.ended('shop', release)).stage, 'ready');
    await two.offered('shop', release);
  }
  await until('the first has left', async () => (await two.found('shop', 1)) === null, waitMs);
  t.not(await two.found('shop', 2), null);
  await until('two are there', async () => (await two.counted()).bytes < 2.5 * mebibyte, waitMs);
  await two.one.remove('shop');
  await until('nothing is left of it but marks', async () => (await two.counted()).bytes < 4000, waitMs);
  for (const release of [1, 2, 3]) t.equal(await two.found('shop', release), null);
});

t.test('a store that is full costs nobody anything; once there is room it is filled', async (t) => {
  const two = await openTwo(t);
  const setBytesMax = async (bytes: number): Promise<void> => {
    const name = `OBJ_${snapshotBucket(siteA)}`;
    const info = JSON.parse(await two.operator.request(`$JS.API.STREAM.INFO.${name}`, '{}', 5000)) as { config: Record<string, unknown> };
    const answer = JSON.parse(await two.operator.request(`$JS.API.STREAM.UPDATE.${name}`, JSON.stringify({ ...info.config, max_bytes: bytes }), 5000)) as { error?: unknown };
    if (answer.error !== undefined) throw new Error(JSON.stringify(answer.error));
  };
  await setBytesMax(300_000);
  two.one.machine.sealedBytes = mebibyte;
  await two.one.deploy('shop', manifest, 1, both);
  t.equal((await two.one.ended('shop')).stage, 'ready');
  t.equal((await two.one.dispatcher.ask('shop')).status, 200);
  const other = await two.other();
  await other.deploy('shop', manifest, 1, both);
  t.equal((await other.ended('shop')).stage, 'ready');
  t.equal(other.machine.count('boot'), 1, 'nothing was offered, so it was prepared here');
  await setBytesMax(100 * mebibyte);
  await two.one.deploy('news', manifest, 1, both);
  await two.offered('news');
  await two.offered('shop');
});

t.test('what does not fit into a provider’s part is left out, and nothing is kept there at all when none may be', async (t) => {
  const two = await openTwo(t, { settings: { storeProviderBytes: 1_500_000 } });
  two.one.machine.sealedBytes = mebibyte;
  for (const app of ['one', 'two']) {
    await two.one.deploy(app, manifest, 1, both);
    t.equal((await two.one.ended(app)).stage, 'ready');
  }
  await two.offered('one');
  t.equal(await two.found('two'), null);
  await two.one.killHead('SIGTERM');
  const none = await startRig(t, { nats: two.nats, site: siteC, settings: { storeBytes: 0 } });
  await none.deploy('shop', manifest, 1, [siteC]);
  t.equal((await none.ended('shop')).stage, 'ready');
  t.equal(await two.reader.findObject(snapshotBucket(siteC), offerObject({ provider: 'prov', scope: 'main', app: 'shop' }, 1)), null);
});
