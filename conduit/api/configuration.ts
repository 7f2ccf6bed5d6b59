import type { Hono } from 'hono';
import { z } from 'zod';
import { Failure } from '../../kit/errors.ts';
import type { ConfigurationChange } from '../configuration/change.ts';
import { configurationOf } from '../deploy.ts';
import type { StoredApp, StoredRelease } from '../store/apps.ts';
import type { ConfiguredAnswer, EnvAnswer, SecretsAnswer } from './answers.ts';
import type { ApiPorts, Ask, Environment } from './ports.ts';

/** The most that may come: all that may be set, each character of it as the longest escape of JSON. */
const bodyBytesMax = 1024 * 1024;

const changeSchema = z.strictObject({ set: z.record(z.string(), z.string()).default({}), unset: z.array(z.string()).max(1000).default([]) });

/** Variables and secrets of an app: what is set by PATCH makes a release; values of secrets go in and never come out. */
export function configurationRoutes(api: Hono<Environment>, ports: ApiPorts, find: { own(c: Ask): Promise<StoredApp>; appName(c: Ask): string }): void {
  const current = async (c: Ask): Promise<{ app: StoredApp; release: StoredRelease }> => {
    const app = await find.own(c);
    const release = await ports.apps.release(app.id, app.release);
    if (release === null) throw new Error(`broken invariant: release ${app.release} of ${app.owner.app} has no row`);
    return { app, release };
  };
  const configure = async (c: Ask, kind: ConfigurationChange['kind']): Promise<Response> => {
    const answer: ConfiguredAnswer = await ports.deploys.configure(c.get('speaker'), find.appName(c), { kind, ...(await readChange(c)) });
    return c.json(answer, answer.changed ? 201 : 200);
  };

  api.get('/apps/:app/env', async (c) => {
    const { app, release } = await current(c);
    const { env, secrets } = await configurationOf(ports, app, release);
    const hidden = new Set([...Object.keys(env), ...Object.keys(secrets)]);
    const own = Object.entries(release.manifest.env).flatMap(([name, value]) => (hidden.has(name) ? [] : [{ name, value, from: 'manifest' as const }]));
    const variables = [...own, ...Object.entries(env).map(([name, value]) => ({ name, value, from: 'set' as const }))].toSorted(byName);
    return c.json({ app: app.owner.app, release: app.release, variables } satisfies EnvAnswer);
  });
  api.patch('/apps/:app/env', (c) => configure(c, 'env'));

  api.get('/apps/:app/secrets', async (c) => {
    const { app, release } = await current(c);
    const { secrets } = await configurationOf(ports, app, release);
    const told = Object.entries(secrets).map(([name, { setWallMs, release: since }]) => ({ name, setWallMs, release: since }));
    return c.json({ app: app.owner.app, release: app.release, secrets: told.toSorted(byName) } satisfies SecretsAnswer);
  });
  api.patch('/apps/:app/secrets', (c) => configure(c, 'secrets'));
}

const byName = (a: { readonly name: string }, b: { readonly name: string }): number => (a.name < b.name ? -1 : 1);

/** No word of what came stands in a Failure: it may be a secret. */
async function readChange(c: Ask): Promise<z.output<typeof changeSchema>> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of (c.req.raw.body ?? []) as unknown as AsyncIterable<Uint8Array>) {
    bytes += part.byteLength;
    if (bytes > bodyBytesMax) throw new Failure('body-too-big', `the body has more than ${bodyBytesMax} bytes`, { remedy: 'Set less at once.' });
    parts.push(part);
  }
  const parsed = changeSchema.safeParse(jsonOf(Buffer.concat(parts)));
  if (parsed.success) return parsed.data;
  throw new Failure('body-invalid', 'the body is not of the form {"set": {"NAME": "VALUE"}, "unset": ["NAME"]}', { remedy: 'Values are texts.' });
}

/** Undefined when it is no JSON in UTF-8. */
function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}
