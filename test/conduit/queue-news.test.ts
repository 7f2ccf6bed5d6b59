import t from 'tap';
import { openQueues } from '../../conduit/queues/queues.ts';
import type { QueuesPorts } from '../../conduit/queues/queues.ts';
import type { StoredApp } from '../../conduit/store/apps.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';

const site = { zone: 'z', edgepoint: 'e' };
const app = { id: 1, release: 1, owner: { provider: 'ann', scope: 'main', app: 'shop' } } as StoredApp;
const manifest = manifestSchema.parse({ app: 'shop', command: ['node'], port: 1, queue: [{ name: 'jobs', path: '/jobs' }] });

t.test('a message that is taken before the conduit knows that it is stored is no longer counted', async (t) => {
  let tell: (key: string, text: string | null, place: number) => void = () => undefined;
  let place = 0;
  const bus = {
    up: true,
    watchKv: (_bucket: string, _filter: string, onEntry: typeof tell) => {
      tell = onEntry;
      return Promise.resolve({ ready: Promise.resolve(), stop: () => undefined });
    },
    placeOfKv: () => Promise.resolve(place),
    putKv: async (_bucket: string, key: string, text: string) => {
      const at = (place += 1);
      // The edgepoint is quicker than the answer.
      tell(key, text, at);
      tell(key, null, (place += 1));
      await Promise.resolve();
      return at;
    },
  };
  const apps = {
    release: () => Promise.resolve({ manifest }),
    placements: () => Promise.resolve({ hosting: [site], leaving: [] }),
    findByName: () => Promise.resolve(app),
  };
  const ports = { bus, apps, sites: [site], reachable: () => new Set(['z.e']), randomBytes: (count: number) => new Uint8Array(count), wallMs: () => 1, log: { warn: () => undefined } };
  const queues = await openQueues(ports as unknown as QueuesPorts);
  for (let count = 0; count < 3; count += 1) await queues.send(app, 'jobs', { contentType: 'text/plain', body: Buffer.from('x') });
  t.match(await queues.list(app), { queues: [{ name: 'jobs', waiting: 0, dead: 0, messages: [] }] });
});
