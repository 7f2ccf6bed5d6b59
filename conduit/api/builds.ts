import type { Hono } from 'hono';
import { z } from 'zod';
import { Failure } from '../../kit/errors.ts';
import type { AppEvent } from '../../kit/wire/event.ts';
import { installers } from '../../kit/wire/manifest.ts';
import { buildBucket } from '../../kit/wire/subjects.ts';
import type { UploadRequest } from '../deploy.ts';
import type { BuildWays } from './follow-build.ts';
import type { ApiPorts, Ask, Environment } from './ports.ts';

const querySchema = z.object({
  install: z.enum(installers).default('none'),
  purpose: z.enum(['release', 'check']).default('release'),
  canary: z.coerce.number().int().min(1).max(99).optional(),
});

/** POST /v1/apps/:app/builds: a source folder is built at an edgepoint, and what comes of it released or checked. */
export function buildRoutes(api: Hono<Environment>, ports: ApiPorts, uploadOf: (c: Ask) => UploadRequest): void {
  api.post('/apps/:app/builds', async (c) => {
    const asked = querySchema.safeParse(c.req.query());
    if (!asked.success) throw new Failure('query-invalid', `the query’s ${JSON.stringify(asked.error.issues[0]?.path.join('.') ?? '')} does not fit`);
    const { install, purpose, canary } = asked.data;
    const request = uploadOf(c);
    const build = await ports.checks.begin(request, { install });
    const fetched = async (built: NonNullable<AppEvent['built']>): Promise<UploadRequest> => {
      const body = await ports.bus.getObject(buildBucket(build.site), built.object);
      if (body === null) throw new Failure('build-gone', 'what was built is not there any more', { remedy: 'Deploy again.' });
      return { ...request, body: body as unknown as AsyncIterable<Uint8Array>, bytes: built.bytes, digest: built.digest, canaryPercent: canary ?? null };
    };
    let ended: Promise<void> | null = null;
    const end = (): Promise<void> => (ended ??= ports.checks.end(build));
    const ways: BuildWays = {
      end,
      ...(purpose === 'release'
        ? { release: async (built) => ports.deploys.accept(await fetched(built)) }
        : {
            check: async (built) => {
              const check = await ports.checks.begin(await fetched(built));
              // The next build need not wait until it is over.
              await end();
              return { check, end: () => ports.checks.end(check) };
            },
          }),
    };
    try {
      const body = ports.follow.build(build, c.req.raw.signal, ways);
      return c.body(body, 200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
    } catch (thrown) {
      await end();
      throw thrown;
    }
  });
}
