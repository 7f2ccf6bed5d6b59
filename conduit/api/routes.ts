import { Hono } from 'hono';
import type { Context } from 'hono';
import { z } from 'zod';
import { Failure, codeOf, messageOf } from '../../kit/errors.ts';
import { namePattern } from '../../kit/ids.ts';
import type { Log } from '../../host/log.ts';
import { asNdjson, streamLines } from './lines.ts';
import type { UploadRequest } from '../deploy.ts';
import { ownApp } from '../deploy.ts';
import type { StoredApp } from '../store/apps.ts';
import { keptReleases } from '../rollback.ts';
import type { ReleasesAnswer } from './answers.ts';
import { accessRoutes } from './access.ts';
import { buildRoutes } from './builds.ts';
import { capRoutes } from './caps.ts';
import { configurationRoutes } from './configuration.ts';
import { answerFailure } from './failures.ts';
import { layerRoutes } from './layers.ts';
import { queueRoutes } from './queues.ts';
import { volumeRoutes } from './volumes.ts';
import type { ApiPorts, Ask, Environment } from './ports.ts';

export function apiRoutes(ports: ApiPorts): Hono<Environment> {
  const api = new Hono<Environment>();

  api.use('*', async (c, next) => {
    const authorization = c.req.header('authorization') ?? '';
    const match = /^Bearer ([^\s]{1,200})$/.exec(authorization);
    if (!match?.[1]) throw new Failure('token-missing', 'this needs a token', { remedy: 'Send the header `Authorization: Bearer TOKEN`, or use `conduit login`.' });
    c.set('speaker', await ports.signIn.byToken(match[1], c.env.address));
    await next();
  });

  api.post('/login', (c) => c.json({ provider: c.get('speaker').provider, zoneName: ports.zoneName, uploadBytesMax: ports.uploadBytesMax }));

  api.get('/apps', async (c) => {
    const { provider } = c.get('speaker');
    const apps = await Promise.all((await ports.apps.list(provider)).map(ports.describe));
    return c.json({ provider, apps });
  });

  api.get('/apps/:app', async (c) => c.json(await ports.describe(await own(ports, c))));

  api.delete('/apps/:app', async (c) => {
    const app = appName(c);
    const { owner } = await own(ports, c);
    await ports.deploys.remove(c.get('speaker'), app);
    // It is deleted; what is not swept now is at the next start.
    await ports.queues.forget(owner).catch((thrown: unknown) => ports.log.warn('messages of a deleted app wait to be removed', { app, reason: messageOf(thrown) }));
    return c.json({ app, deleted: true });
  });

  api.post('/apps/:app/releases', async (c) => c.json(await ports.deploys.accept(uploadOf(c, query(c, z.object({ canary: percentSchema.optional() })).canary ?? null)), 201));

  api.get('/apps/:app/releases', async (c) => c.json(await releasesOf(ports, await own(ports, c))));

  api.post('/apps/:app/rollback', async (c) => {
    const { release } = query(c, z.object({ release: z.coerce.number().int().min(1).optional() }));
    return c.json(await ports.deploys.rollback(c.get('speaker'), appName(c), release ?? null), 201);
  });

  buildRoutes(api, ports, (c) => uploadOf(c, null));
  layerRoutes(api, ports);
  accessRoutes(api, ports, (c) => own(ports, c));
  queueRoutes(api, ports, (c) => own(ports, c));

  volumeRoutes(api, ports, (c) => own(ports, c));
  configurationRoutes(api, ports, { own: (c) => own(ports, c), appName });

  api.post('/apps/:app/canary', async (c) => {
    const { percent } = query(c, z.object({ percent: percentSchema }));
    return c.json(await ports.deploys.changeCanary(c.get('speaker'), appName(c), percent), 201);
  });

  api.post('/apps/:app/promote', async (c) => c.json(await ports.deploys.promoteCanary(c.get('speaker'), appName(c)), 201));

  api.delete('/apps/:app/canary', async (c) => {
    const app = appName(c);
    return c.json({ app, aborted: await ports.deploys.abortCanary(c.get('speaker'), app) });
  });

  api.post('/apps/:app/checks', async (c) => {
    const check = await ports.checks.begin(uploadOf(c, null));
    try {
      return lines(c, ports.follow.check(check, c.req.raw.signal, () => ports.checks.end(check)));
    } catch (thrown) {
      await ports.checks.end(check);
      throw thrown;
    }
  });

  api.get('/apps/:app/events', async (c) => {
    const { deploy, settle } = query(c, z.object({ deploy: z.string().max(64).optional(), settle: z.coerce.number().int().min(0).max(300).default(0) }));
    return lines(c, await ports.follow.deploy(await own(ports, c), deploy ?? null, settle * 1000));
  });

  api.get('/apps/:app/logs', async (c) => {
    const asked = query(c, z.object({ follow: z.enum(['0', '1']).default('0'), last: z.coerce.number().int().min(0).max(10_000).default(200) }));
    return lines(c, await ports.follow.logs(await own(ports, c), { last: asked.last, follow: asked.follow === '1' }));
  });

  api.get('/domains', async (c) => {
    const speaker = c.get('speaker');
    return c.json({ provider: speaker.provider, domains: await ports.domains.list(speaker) });
  });

  api.delete('/domains/:domain', async (c) => {
    const domain = c.req.param('domain');
    await ports.domains.remove(c.get('speaker'), domain);
    return c.json({ domain, removed: true });
  });

  api.post('/apps/:app/domains/:domain', async (c) => {
    const produce = await ports.domains.add(c.get('speaker'), appName(c), c.req.param('domain'));
    return lines(c, streamLines({ encode: asNdjson, beat: { type: 'beat' }, produce }));
  });

  api.get('/usage', async (c) => {
    const { app } = query(c, z.object({ app: z.string().max(64).default('') }));
    return c.json(await ports.usage(c.get('speaker').provider, app));
  });

  capRoutes(api, ports);

  api.notFound(() => {
    throw new Failure('no-such-way', 'there is nothing at this address', { remedy: 'The API lies below /v1; `conduit --help` lists what can be done.' });
  });
  return api;
}

/** Of an app's requests; less or more would be no canary. */
const percentSchema = z.coerce.number().int().min(1).max(99);

/** So many of an app's releases are listed. */
const releasesMost = 50;

async function releasesOf({ apps }: ApiPorts, app: StoredApp): Promise<ReleasesAnswer> {
  const [found, canary] = await Promise.all([apps.releases(app.id, releasesMost), apps.canaries.find(app.id)]);
  const served = found.filter((one) => one.served);
  const releases = found.map((one) => {
    const { release, artefactDigest, artefactBytes, createdWallMs, about } = one;
    const current = release === app.release;
    const canaryPercent = canary?.release === release ? canary.percent : null;
    return { release, artefactDigest, artefactBytes, createdWallMs, current, kept: current || (one.served && served.indexOf(one) < keptReleases), canaryPercent, about };
  });
  return { app: app.owner.app, current: app.release, releases };
}

/** Answers a Failure as JSON with its status; hands what is not one to the log. */
export function answerJson(ports: { readonly log: Log }, thrown: unknown, c: Context): Response {
  const { status, answer } = answerFailure(thrown);
  if (status >= 500) ports.log.error('a request failed', { path: c.req.path, code: codeOf(thrown), reason: messageOf(thrown), stack: thrown instanceof Error ? thrown.stack : '' });
  if (status === 401) c.header('WWW-Authenticate', 'Bearer');
  if (status === 429) c.header('Retry-After', '60');
  if (status === 503) c.header('Retry-After', '3');
  return c.json(answer, status);
}

function uploadOf(c: Ask, canaryPercent: number | null): UploadRequest {
  const app = appName(c);
  const headers = z
    .object({
      'content-length': z.coerce.number().int().min(0).optional(),
      'x-artefact-digest': z.string().regex(/^sha256:[0-9a-f]{64}$/).optional(),
    })
    .safeParse({ 'content-length': c.req.header('content-length'), 'x-artefact-digest': c.req.header('x-artefact-digest') });
  if (!headers.success) throw new Failure('query-invalid', `a header does not fit: ${headers.error.issues[0]?.path.join('.') ?? ''}`);
  const bytes = headers.data['content-length'] ?? null;
  const body = c.req.raw.body;
  if (!body) throw new Failure('body-missing', 'the archive is missing', { remedy: 'Send the tar.gz as the body of the request.' });
  return { speaker: c.get('speaker'), app, body: chunksOf(body), bytes, digest: headers.data['x-artefact-digest'] ?? null, canaryPercent };
}

const own = (ports: ApiPorts, c: Ask): Promise<StoredApp> => ownApp(ports.apps, c.get('speaker'), appName(c));

function appName(c: Ask): string {
  const app = c.req.param('app') ?? '';
  if (namePattern.test(app)) return app;
  throw new Failure('app-unknown', `${JSON.stringify(app.slice(0, 64))} is no name of an app`, { remedy: 'A name is lower-case letters, digits and inner hyphens, 1 to 40 of them, and begins with a letter.' });
}

function query<S extends z.ZodObject>(c: Ask, schema: S): z.output<S> {
  const parsed = schema.safeParse(c.req.query());
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new Failure('query-invalid', `the query’s ${JSON.stringify(issue?.path.join('.') ?? '')} does not fit: ${issue?.message ?? ''}`);
}

const lines = (c: Ask, body: ReadableStream<Uint8Array>): Response =>
  c.body(body, 200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });

/** The types of the platform's streams do not say yet that they can be iterated; both runtimes can. */
const chunksOf = (body: ReadableStream<Uint8Array>): AsyncIterable<Uint8Array> => body as unknown as AsyncIterable<Uint8Array>;
