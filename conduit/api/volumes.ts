import type { Hono } from 'hono';
import { z } from 'zod';
import { codeOf, Failure, messageOf } from '../../kit/errors.ts';
import { namePattern } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { snapshotsKeptMax, volumesAskMessage } from '../../kit/wire/volumes.ts';
import type { VolumeFacts, VolumesAsk, VolumesLine } from '../../kit/wire/volumes.ts';
import type { StoredApp } from '../store/apps.ts';
import type { AppAtSite, VolumesAnswer } from './answers.ts';
import { asNdjson, streamLines } from './lines.ts';
import type { ApiPorts, Ask, Environment } from './ports.ts';

/** A list is a question that should be answered at once; one edgepoint that is silent must not hide what the others say. */
const listMsMax = 10_000;

const number = z.coerce.number().int().min(1);
const querySchema = z.object({ at: z.string().max(100).optional(), from: z.string().max(100).default(''), keep: number.max(snapshotsKeptMax).optional(), snapshot: number.optional() });

/** Volumes of an app and their snapshots; what takes a while is told line by line (`volumesLineSchema`). */
export function volumeRoutes(api: Hono<Environment>, ports: ApiPorts, own: (c: Ask) => Promise<StoredApp>): void {
  api.get('/apps/:app/volumes', async (c) => {
    const app = await own(c);
    const sites = await ports.sitesOnce(app, allReachable);
    return c.json({ app: app.owner.app, sites: await Promise.all(sites.map(async (site) => listAt(ports, app, site))) } satisfies VolumesAnswer);
  });

  const begin = async (c: Ask, operation: VolumesAsk['operation'], snapshot: number): Promise<Response> => {
    const app = await own(c);
    const volume = c.req.param('volume') ?? '';
    if (!namePattern.test(volume)) throw new Failure('volume-unknown', `${JSON.stringify(volume.slice(0, 64))} is no name of a volume`, { remedy: '`conduit volumes APP` lists them.' });
    const { at, from, keep } = query(c);
    const site = chooseSite(await ports.sitesOnce(app, allReachable), at ?? null);
    const ask = askOf(app, { operation, volume, snapshot, keep: keep ?? null, from: from.replace('/', '.') });
    const body = streamLines({
      encode: asNdjson,
      beat: { type: 'beat' },
      produce: async (writer) => {
        try {
          await ports.volumes.ask(site, ask, (line) => void writer.send(line), writer.gone);
        } catch (thrown) {
          writer.send({ type: 'failed', code: codeOf(thrown), text: messageOf(thrown), remedy: thrown instanceof Failure ? thrown.remedy : '' } satisfies VolumesLine);
        }
        writer.end();
      },
    });
    return c.body(body, 200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
  };
  const snapshotOf = (text: string | undefined): number => {
    const read = number.safeParse(text);
    if (!read.success) throw new Failure('snapshot-unknown', 'say which snapshot, by its number', { remedy: '`conduit volumes APP` lists them.' });
    return read.data;
  };

  api.post('/apps/:app/volumes/:volume/snapshots', (c) => begin(c, 'snapshot', 0));
  api.post('/apps/:app/volumes/:volume/snapshots/:snapshot/restore', (c) => begin(c, 'restore', snapshotOf(c.req.param('snapshot'))));
  api.post('/apps/:app/volumes/:volume/snapshots/:snapshot/remove', (c) => begin(c, 'remove', snapshotOf(c.req.param('snapshot'))));
}

const askOf = (app: StoredApp, about: Partial<VolumesAsk> & Pick<VolumesAsk, 'operation'>): VolumesAsk => volumesAskMessage.schema.parse({ ...app.owner, ...about });

async function listAt(ports: ApiPorts, app: StoredApp, { zone, edgepoint, reachable }: AppAtSite): Promise<VolumesAnswer['sites'][number]> {
  if (!reachable) return { zone, edgepoint, volumes: [], reason: 'it is not heard from' };
  let volumes: readonly VolumeFacts[] = [];
  try {
    await ports.volumes.ask({ zone, edgepoint }, askOf(app, { operation: 'list' }), (line) => void (volumes = line.type === 'volumes' ? line.volumes : volumes), AbortSignal.timeout(listMsMax));
    return { zone, edgepoint, volumes: [...volumes], reason: '' };
  } catch (thrown) {
    return { zone, edgepoint, volumes: [], reason: codeOf(thrown) === 'client-gone' ? `it has not answered within ${listMsMax / 1000} s` : messageOf(thrown) };
  }
}

const allReachable = (sites: readonly AppAtSite[]): boolean => sites.every(({ reachable }) => reachable);

/** The one that is named, or the only one there is. */
export function chooseSite(sites: readonly AppAtSite[], at: string | null): Site {
  const named = at === null ? sites : sites.filter(({ zone, edgepoint }) => at === edgepoint || at === `${zone}/${edgepoint}`);
  const text = sites.map(({ zone, edgepoint }) => `${zone}/${edgepoint}`).join(', ') || 'none';
  const [site] = named;
  if (site === undefined) throw new Failure('edgepoint-unknown', at === null ? 'no edgepoint has the app' : `no edgepoint ${JSON.stringify(at)} has the app; it is at ${text}`);
  if (named.length > 1) throw new Failure('edgepoint-unsaid', `the app is at several edgepoints, and each has a volume of its own: ${text}`, { remedy: 'Say at which, by --at.' });
  if (!site.reachable) throw new Failure('edgepoint-away', `${site.zone}/${site.edgepoint} is not heard from`, { remedy: 'Try again later.' });
  return { zone: site.zone, edgepoint: site.edgepoint };
}

function query(c: Ask): z.output<typeof querySchema> {
  const parsed = querySchema.safeParse(c.req.query());
  if (parsed.success) return parsed.data;
  throw new Failure('query-invalid', `the query’s ${JSON.stringify(parsed.error.issues[0]?.path.join('.') ?? '')} does not fit: ${parsed.error.issues[0]?.message ?? ''}`);
}
