import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { Failure, messageOf } from '../../kit/errors.ts';
import { formatBytes } from '../../kit/units.ts';
import type { BuildStep } from './plan.ts';

/** Where the program in the box listens (runner.cjs), and the signal that ends every question to it. */
export interface RunnerPlace {
  readonly address: string;
  readonly port: number;
  readonly until: AbortSignal;
}

/** What a build's box says about a step that has ended; believed by nobody but for its words. */
const ranSchema = z.object({
  status: z.int().min(0).max(255),
  signal: z.string().max(16),
  error: z.string().max(1000),
  freeBytes: z.number().min(0),
  freeFiles: z.number().min(0),
});
export type Ran = z.output<typeof ranSchema>;

const answerBytesMax = 64 * 1024;

/** Node's version and processor in the box. */
export const askRuntime = async (place: RunnerPlace): Promise<string> => textOf(await ask(place, 'GET', '/'));

/** Runs a step in /app to its end. */
export async function runStep(place: RunnerPlace, { argv, env }: BuildStep): Promise<Ran> {
  const text = await textOf(await ask(place, 'POST', '/run', JSON.stringify({ argv, env, cwd: '/app' })));
  const parsed = ranSchema.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  throw broken('what it answers is not understood');
}

/** Unpacks a tar.gz into /app. */
export async function unpackInto(place: RunnerPlace, file: string): Promise<void> {
  await textOf(await ask(place, 'PUT', '/unpack', createReadStream(file)));
}

/** Packs `names` of /app (none: all of it) into a file; its digest. A Failure `build-too-big` when it is longer than `bytesMax`. */
export async function packInto(place: RunnerPlace, names: readonly string[], file: string, bytesMax: number): Promise<{ digest: string; bytes: number }> {
  const query = names.map((name) => `name=${encodeURIComponent(name)}`).join('&');
  const response = await ask(place, 'GET', `/pack?${query}`);
  const hash = createHash('sha256');
  let bytes = 0;
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      bytes += chunk.length;
      if (bytes <= bytesMax) return done(null, chunk);
      done(new Failure('build-too-big', `packed, what was built has more than ${formatBytes(bytesMax)}`, { remedy: 'Leave out dependencies, or remove what the app does not need at the end of the build.' }));
    },
  });
  try {
    await pipeline(response, counted, createWriteStream(file, { mode: 0o600 }), { signal: place.until });
    // A connection that was cut ends as one that was not, but for this.
    if (!response.complete) throw broken('its answer was cut off');
  } catch (thrown) {
    await rm(file, { force: true });
    throw thrown instanceof Failure ? thrown : broken(messageOf(thrown));
  }
  return { digest: `sha256:${hash.digest('hex')}`, bytes };
}

function ask(place: RunnerPlace, method: string, path: string, body?: string | NodeJS.ReadableStream): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const question = request({ host: place.address, port: place.port, method, path, agent: false, signal: place.until, headers: { host: 'build', connection: 'close' } });
    question.once('response', (response) => {
      if (response.statusCode === 200) return resolve(response);
      textOf(response).then((text) => reject(broken(text.slice(0, 500))), reject);
    });
    question.once('error', (error) => reject(broken(messageOf(error))));
    if (body === undefined || typeof body === 'string') question.end(body);
    else {
      body.once('error', (error: Error) => question.destroy(error));
      body.pipe(question);
    }
  });
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of response) {
    text += (chunk as Buffer).toString();
    if (text.length > answerBytesMax) throw broken('its answer is too long');
  }
  return text;
}

const broken = (why: string): Failure => new Failure('build-broken', `the box of the build does not answer: ${why}`, { remedy: 'Something of the build may have ended it; see what it wrote with `conduit logs`.' });
