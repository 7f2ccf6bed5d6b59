import { createHmac } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import { Failure } from '../../kit/errors.ts';
import { microsPerUnit } from '../../kit/units.ts';
import type { StoredAlert } from '../store/caps.ts';

/** Symmetric keys of webhooks begin so (Standard Webhooks 1.0, "Symmetric signatures"); 32 bytes of them, in base64. */
const secretPrefix = 'whsec_';
export const secretBytes = 32;
export const secretText = (bytes: Uint8Array): string => `${secretPrefix}${Buffer.from(bytes).toString('base64')}`;

/** A request's fields and body, as Standard Webhooks 1.0 has them: the id is the alert's, at each attempt. */
export function signedRequest(about: { id: string; body: string; secret: string; nowWallMs: number }): { readonly headers: Readonly<Record<string, string>>; readonly body: string } {
  const { id, body, secret, nowWallMs } = about;
  const seconds = `${Math.floor(nowWallMs / 1000)}`;
  const key = Buffer.from(secret.slice(secretPrefix.length), 'base64');
  const signature = createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64');
  return {
    headers: { 'content-type': 'application/json', 'user-agent': 'edgepoint-conduit', 'webhook-id': id, 'webhook-timestamp': seconds, 'webhook-signature': `v1,${signature}` },
    body,
  };
}

/** What a webhook is told. `type` and the names of the fields are never given another meaning. */
export function alertBody(provider: string, alert: StoredAlert): string {
  const { app, month, percent, micros, spentMicros, currency, wallMs } = alert;
  const money = (amount: number): string => `${(amount / microsPerUnit).toFixed(6)} ${currency}`;
  const whose = app === '' ? 'all apps' : app;
  const text = percent === 100
    ? `The spending cap of ${money(micros)} for ${whose} in ${month} is reached: requests are answered 503 (spending-cap-reached) until the cap is raised or the month is over.`
    : `${percent} % of the spending cap of ${money(micros)} for ${whose} in ${month} are spent.`;
  return JSON.stringify({
    type: percent === 100 ? 'spending.cap-reached' : 'spending.threshold-reached',
    timestamp: new Date(wallMs).toISOString(),
    data: { provider, app: app === '' ? null : app, month, percent, capMicros: micros, spentMicros, currency, text },
  });
}

const attemptsMax = 12;
const secondMs = 1000;
const waitsMs = [2, 10, 60, 300, 1800, 3600].map((seconds) => seconds * secondMs);
export const waitMsMax = 3 * 3600 * secondMs;

/** How long after so many failed attempts the next one is made; null: none is. All of them take about a day. */
export function waitAfter(attempts: number): number | null {
  return attempts >= attemptsMax ? null : (waitsMs[attempts - 1] ?? waitMsMax);
}

/** A wait that a clock which was set back has made longer than any is over. */
export const isDue = (nextWallMs: number, nowWallMs: number): boolean => nextWallMs <= nowWallMs || nextWallMs > nowWallMs + waitMsMax;

const urlCharactersMax = 2000;

/** The address of a webhook, or a Failure `webhook-url` that says what is wrong with it. `anywhere`: the operator allows what is not public. */
export function readWebhookUrl(text: string, anywhere: boolean): URL {
  const refuse = (why: string): Failure => new Failure('webhook-url', `this cannot be the address of a webhook: ${why}`, { remedy: 'Give an https or http URL of a server on the public internet.' });
  if (text.length > urlCharactersMax || !URL.canParse(text)) throw refuse('it is no URL');
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw refuse('it is neither https nor http');
  if (url.username !== '' || url.password !== '') throw refuse('it has a name or a password in it');
  const host = hostOf(url);
  if (isIP(host) !== 0 && !anywhere && !isPublic(host)) throw refuse(`${host} is no public address`);
  return url;
}

/** Without the brackets of an IPv6 address. */
export const hostOf = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, '$1');

/** IPv4 that is not globally reachable, by IANA's registry of special-purpose addresses (RFC 6890 and later), and multicast. */
const special = new BlockList();
for (const [first, length] of [
  ['0.0.0.0', 8], ['10.0.0.0', 8], ['100.64.0.0', 10], ['127.0.0.0', 8], ['169.254.0.0', 16], ['172.16.0.0', 12], ['192.0.0.0', 24], ['192.0.2.0', 24],
  ['192.88.99.0', 24], ['192.168.0.0', 16], ['198.18.0.0', 15], ['198.51.100.0', 24], ['203.0.113.0', 24], ['224.0.0.0', 4], ['240.0.0.0', 4],
] as const) special.addSubnet(first, length, 'ipv4');
/** Of IPv6 only what is handed out (2000::/3), without what carries IPv4 in it (6to4, Teredo), documentation and other special ones. */
const handedOut = new BlockList();
handedOut.addSubnet('2000::', 3, 'ipv6');
const special6 = new BlockList();
for (const [first, length] of [['2001::', 23], ['2001:db8::', 32], ['2002::', 16], ['3fff::', 20]] as const) special6.addSubnet(first, length, 'ipv6');

/** Whether an address is one of the public internet: nothing of this machine, its networks or the platform's own. */
export function isPublic(address: string): boolean {
  if (isIP(address) === 4) return !special.check(address, 'ipv4');
  return isIP(address) === 6 && handedOut.check(address, 'ipv6') && !special6.check(address, 'ipv6');
}
