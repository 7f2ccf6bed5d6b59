import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { Failure, codeOf, messageOf } from '../../kit/errors.ts';

export const credentialsSchema = z.object({ url: z.url({ protocol: /^https?$/ }), token: z.string().min(1).max(200) });
export type Credentials = z.output<typeof credentialsSchema>;
type Env = Record<string, string | undefined>;

export function credentialsPath(env: Env): string {
  return join(env['XDG_CONFIG_HOME'] || join(env['HOME'] || homedir(), '.config'), 'edgepoint', 'credentials.json');
}

/** From CONDUIT_URL and CONDUIT_TOKEN, each of which goes before the file that `conduit login` wrote. */
export async function readCredentials(env: Env): Promise<Credentials> {
  const path = credentialsPath(env);
  let stored: unknown = {};
  try {
    stored = JSON.parse(await readFile(path, 'utf8'));
  } catch (thrown) {
    if (codeOf(thrown) !== 'ENOENT') {
      throw new Failure('credentials-unreadable', `${path} cannot be read: ${messageOf(thrown)}`, { remedy: 'Remove it and use `conduit login` again.' });
    }
  }
  const parsed = credentialsSchema.safeParse({
    ...(typeof stored === 'object' ? stored : {}),
    ...(env['CONDUIT_URL'] ? { url: env['CONDUIT_URL'] } : {}),
    ...(env['CONDUIT_TOKEN'] ? { token: env['CONDUIT_TOKEN'] } : {}),
  });
  if (parsed.success) return { ...parsed.data, url: parsed.data.url.replace(/\/+$/, '') };
  throw new Failure('not-logged-in', 'you are not logged in to a conduit', {
    remedy: 'Use `conduit login URL --token TOKEN`, or set CONDUIT_URL and CONDUIT_TOKEN.',
  });
}

/** Readable by nobody else from its first byte; whole or not there. */
export async function writeCredentials(env: Env, credentials: Credentials): Promise<string> {
  const path = credentialsPath(env);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const fresh = `${path}.${process.pid}`;
  await writeFile(fresh, `${JSON.stringify(credentials, null, 2)}\n`, { mode: 0o600 });
  await chmod(fresh, 0o600);
  await rename(fresh, path);
  return path;
}
