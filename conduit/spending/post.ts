import { lookup } from 'node:dns/promises';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { LookupFunction } from 'node:net';
import { isIP } from 'node:net';
import { Failure } from '../../kit/errors.ts';
import { hostOf, isPublic, readWebhookUrl } from './webhook.ts';

const timeOutMs = 10_000;

export interface Posting {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Also to addresses that are not public. */
  readonly anywhere: boolean;
}

/**
 * Posts to a webhook and resolves when it has answered with a status of 2xx; otherwise rejects with a Failure. The name is looked up once and
 * the connection goes to what was judged, so that a name cannot lead elsewhere in between; nothing is followed, and of the answer only the
 * status is read.
 */
export async function post(posting: Posting): Promise<void> {
  const url = readWebhookUrl(posting.url, posting.anywhere);
  const address = await addressOf(hostOf(url), posting.anywhere);
  const status = await ask(url, address, posting);
  if (status < 200 || status > 299) throw new Failure('webhook-answer', `it answered ${status}`);
}

async function addressOf(host: string, anywhere: boolean): Promise<string> {
  const found = isIP(host) !== 0 ? [host] : (await within(lookup(host, { all: true }))).map(({ address }) => address);
  const allowed = anywhere ? found : found.filter(isPublic);
  const [first] = allowed;
  if (first === undefined) throw new Failure('webhook-address', `${host} has no public address`);
  return first;
}

function within<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Failure('webhook-late', `its name was not found within ${timeOutMs / 1000} s`)), timeOutMs);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

function ask(url: URL, address: string, { headers, body }: Posting): Promise<number> {
  const family = isIP(address);
  const judged: LookupFunction = (_host, options, callback) => {
    if (options.all === true) callback(null, [{ address, family }]);
    else callback(null, address, family);
  };
  return new Promise((resolve, reject) => {
    const request = url.protocol === 'https:' ? requestHttps : requestHttp;
    const asked = request(url, { method: 'POST', agent: false, headers: { ...headers, 'content-length': `${Buffer.byteLength(body)}`, connection: 'close' }, lookup: judged }, (answer) => {
      clearTimeout(timer);
      resolve(answer.statusCode ?? 0);
      answer.on('error', () => undefined);
      answer.destroy();
    });
    const timer = setTimeout(() => asked.destroy(new Failure('webhook-late', `it did not answer within ${timeOutMs / 1000} s`)), timeOutMs);
    asked.on('error', (failure) => {
      clearTimeout(timer);
      reject(failure);
    });
    asked.end(body);
  });
}
