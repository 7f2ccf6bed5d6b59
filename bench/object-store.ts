import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { bringTemplate, type BroughtTemplate } from '../edgepoint/exchange/bring.ts';
import type { ExchangeCalls, WantedTemplate } from '../edgepoint/model/exchange.ts';
import { openExchange } from '../edgepoint/templates/exchange.ts';
import { openKeyRing } from '../edgepoint/templates/keys.ts';
import { identityOf, readTrusted } from '../edgepoint/templates/trusted.ts';
import { type SealPorts, sealSnapshot } from '../edgepoint/templates/seal.ts';
import { connectBus, type Bus } from '../host/bus.ts';
import { natsServerConfig, newBusUser, prepareStreams } from '../host/credentials.ts';
import type { Log } from '../host/log.ts';
import { writeNatsConfig } from '../host/nats-server.ts';
import { tools } from '../host/tools.ts';
import { siteKey } from '../kit/ids.ts';
import type { Owner, Site } from '../kit/ids.ts';
import { offerObject, snapshotBucket } from '../kit/wire/subjects.ts';
import type { Engine } from './engine.ts';

const port = 4222;
const timeoutMs = 60_000;
const log: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, with: () => log };

/** A message server of the benchmark's own and what two edgepoints keep in it: the engine's, and another whose keys are others. */
export interface ObjectStore {
  /** Puts a template there: the engine's own as it is, or sealed by the other's keys. */
  put(snapshotPath: string, by: 'own' | 'other'): Promise<void>;
  /** Fetches, verifies and admits it, as a wake does; where it lies then. */
  bring(by: 'own' | 'other'): Promise<BroughtTemplate>;
  close(): Promise<void>;
}

export async function openObjectStore(engine: Engine, owner: Owner): Promise<ObjectStore> {
  const folder = mkdtempSync('/var/tmp/edgepoint-bench-nats-');
  const here: Site = engine.store.ports.site;
  const there: Site = { ...here, edgepoint: 'other' };
  const users = { operator: newBusUser('operator', null), own: newBusUser('edgepoint', here), other: newBusUser('edgepoint', there) };
  const config = join(folder, 'nats.conf');
  writeNatsConfig(config, natsServerConfig({ operator: 'bench', listen: `127.0.0.1:${port}`, storeFolder: join(folder, 'store'), users: Object.values(users).map(({ user }) => user) }));
  const server = Bun.spawn([tools.natsServer, '-c', config], { stdio: ['ignore', 'ignore', 'ignore'] });
  const connect = async (who: keyof typeof users): Promise<Bus> => {
    const bus = await connectBus({ url: `nats://127.0.0.1:${port}`, seed: users[who].seed, name: who }, log);
    while (!bus.up) await Bun.sleep(5);
    return bus;
  };
  const operator = await connect('operator');
  await prepareStreams(operator, [here, there]);
  const buses = { own: await connect('own'), other: await connect('other') };

  const otherPorts: SealPorts = { ...engine.store.ports, site: there, keys: openKeyRing(join(folder, 'other-keys')) };
  const trustedBy = (name: string, site: Site, keys: SealPorts['keys']): string => {
    const path = join(folder, `${name}.json`);
    Bun.spawnSync(['sh', '-c', 'umask 077 && cat >"$0"', path], { stdin: Buffer.from(JSON.stringify([identityOf(site, keys)])) });
    return path;
  };
  const ownTrusted = trustedBy('own', there, otherPorts.keys);
  const otherTrusted = trustedBy('other', here, engine.store.ports.keys);
  const exchanges: Readonly<Record<'own' | 'other', ExchangeCalls>> = {
    own: openExchange({ ...engine.store.ports, dataFolder: engine.dataFolder, here: engine.store.here, trusted: () => readTrusted(ownTrusted) }),
    other: openExchange({ ...otherPorts, dataFolder: folder, here: engine.store.here, trusted: () => readTrusted(otherTrusted) }),
  };
  const sites = { own: here, other: there };
  const wanted: WantedTemplate = { owner, release: 1, orderDigest: 'bench' };
  let count = 0;

  /** The same snapshot as another edgepoint would have sealed it. */
  async function sealedByOther(snapshotPath: string): Promise<string> {
    const hot = await engine.templates.use({ owner, release: 1, snapshotPath, continues: false });
    const target = join(folder, 'sealing');
    const { name } = await sealSnapshot({ folder: hot.path, target, owner, release: 1, instance: 'bench', fingerprint: engine.store.here(), effort: 'small' }, otherPorts);
    hot.done({ spent: true });
    const path = join(folder, name);
    Bun.spawnSync(['mv', target, path]);
    return path;
  }

  return {
    async put(snapshotPath, by) {
      const path = by === 'own' ? snapshotPath : await sealedByOther(snapshotPath);
      const { text } = await exchanges[by].offer({ ...wanted, snapshotPath: path, imageBytes: 1, coldBootMs: 1000, sites: Object.values(sites).map(siteKey) });
      await buses[by].putNotedObject(snapshotBucket(sites[by]), offerObject(owner, 1), { id: path.split('/').at(-1) ?? '', content: () => Bun.file(path).stream(), note: () => Promise.resolve(text) });
    },
    async bring(by) {
      count += 1;
      const bus = buses.own;
      const objects = {
        put: () => Promise.reject(new Error('a benchmark puts by itself')),
        drop: () => Promise.resolve(),
        clear: () => Promise.resolve(),
        find: async (from: Site, name: string) => {
          const found = await bus.findObject(snapshotBucket(from), name);
          return found === null ? null : { id: found.id, offer: found.note, open: () => found.open() };
        },
      };
      const order = { wanted, from: [sites[by]], snapshotPath: join(engine.dataFolder, `fetched-${count}`), file: join(engine.dataFolder, 'coming'), timeoutMs };
      const notes: unknown[] = [];
      const brought = await bringTemplate(order, { objects, calls: exchanges.own, discard: () => Promise.resolve(), warn: () => undefined, nowMs: () => performance.now() }, (note) => notes.push(note));
      if (brought === null) throw new Error(`no template came: ${JSON.stringify(notes)}`);
      return brought;
    },
    async close() {
      for (const bus of [operator, ...Object.values(buses)]) await bus.close();
      server.kill('SIGKILL');
      await server.exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
