import { fetch } from 'undici';
import type { RequestInit, Response } from 'undici';
import type { z } from 'zod';
import { Failure, messageOf } from '../../kit/errors.ts';
import { failureAnswerSchema } from '../api/answers.ts';
import type { Credentials } from './credentials.ts';

/** The conduit's API as the commands need it. Every refusal is a Failure with the API's own code, message and remedy. */
export interface Client {
  readonly url: string;
  /** What every request carries: whose it is. */
  readonly headers: Readonly<Record<string, string>>;
  get<S extends z.ZodType>(path: string, schema: S): Promise<z.output<S>>;
  send<S extends z.ZodType>(method: 'POST' | 'PATCH' | 'DELETE', path: string, schema: S, body?: Upload): Promise<z.output<S>>;
  /** The lines of an NDJSON stream, each parsed; those of a kind not known here are passed over. With a body it is asked by POST. */
  lines<S extends z.ZodType>(path: string, schema: S, body?: Upload): AsyncGenerator<z.output<S>>;
}

export interface Upload {
  readonly stream: AsyncIterable<Uint8Array>;
  readonly headers: Readonly<Record<string, string>>;
}

/** A JSON value as a body. */
export function jsonUpload(value: unknown): Upload {
  const bytes = Buffer.from(JSON.stringify(value));
  return {
    stream: (async function* () {
      yield bytes;
    })(),
    headers: { 'content-type': 'application/json' },
  };
}

export function openClient(credentials: Credentials): Client {
  const own = { authorization: `Bearer ${credentials.token}`, 'user-agent': 'conduit-cli' };
  const ask = async (path: string, init: RequestInit): Promise<Response> => {
    const headers = { ...own, ...(init.headers as Record<string, string> | undefined) };
    let response: Response;
    try {
      response = await fetch(`${credentials.url}/v1${path}`, { ...init, headers, redirect: 'error' });
    } catch (thrown) {
      const cause = thrown instanceof Error && thrown.cause !== undefined ? messageOf(thrown.cause) : messageOf(thrown);
      throw new Failure('conduit-unreachable', `the conduit at ${credentials.url} cannot be reached (${cause})`, {
        remedy: 'Is the address right, and does it run? `conduit login URL` sets another.',
        cause: thrown,
      });
    }
    if (!response.ok) throw await failureOf(response, credentials.url);
    return response;
  };
  const parse = async <S extends z.ZodType>(response: Response, schema: S): Promise<z.output<S>> => {
    const parsed = schema.safeParse(await response.json().catch(() => null));
    if (parsed.success) return parsed.data;
    throw notAConduit(credentials.url);
  };
  return {
    url: credentials.url,
    headers: own,
    get: async (path, schema) => parse(await ask(path, {}), schema),
    send: async (method, path, schema, body) =>
      parse(await ask(path, body ? sending(method, body) : { method }), schema),
    async *lines(path, schema, body) {
      const response = await ask(path, body ? sending('POST', body) : {});
      for await (const line of splitLines(response)) {
        const parsed = schema.safeParse(JSON.parse(line));
        if (parsed.success) yield parsed.data;
      }
    },
  };
}

const sending = (method: string, body: Upload): RequestInit => ({ method, body: body.stream as NonNullable<RequestInit['body']>, headers: { ...body.headers }, duplex: 'half' });

const notAConduit = (url: string): Failure =>
  new Failure('not-a-conduit', `what answers at ${url} is not a conduit this command understands`, { remedy: 'Check the address, or install the conduit’s own version of this command.' });

async function failureOf(response: Response, url: string): Promise<Failure> {
  const parsed = failureAnswerSchema.safeParse(await response.json().catch(() => null));
  return parsed.success ? new Failure(parsed.data.code, parsed.data.message, { remedy: parsed.data.remedy }) : notAConduit(url);
}

const lineBytesMax = 4 * 1024 * 1024;

async function* splitLines(response: Response): AsyncGenerator<string> {
  if (!response.body) return;
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of untilCut(response.body as AsyncIterable<Uint8Array>)) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > lineBytesMax) throw new Failure('not-a-conduit', 'a line of the answer is too long');
    for (const line of lines) if (line !== '') yield line;
  }
}

/** A connection that breaks under an answer is a conduit that has gone, not a fault of this command. */
async function* untilCut(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (thrown) {
    throw new Failure('progress-cut', `the connection to the conduit was lost: ${messageOf(thrown)}`, { remedy: 'Try again in a few seconds.', cause: thrown });
  }
}
