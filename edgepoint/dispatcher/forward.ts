import type { Endpoints } from '../model/proxy-protocol.ts';
import { fieldValue } from './head-lines.ts';
import type { Field } from './head-lines.ts';
import type { RequestHead } from './request-head.ts';
import type { ResponseHead } from './response-head.ts';

/** Fields of one connection only (RFC 9110, section 7.6.1), and those by which a client could pretend to be somebody else. */
const requestFieldsDropped = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authorization',
  'te',
  'upgrade',
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-server',
  'x-real-ip',
  'x-client-ip',
  'edgepoint-cron',
  'edgepoint-cron-due',
  'edgepoint-queue',
  'edgepoint-message',
  'edgepoint-attempt',
]);
const responseFieldsDropped = new Set(['connection', 'keep-alive', 'proxy-connection', 'upgrade']);
/** A client that names these in Connection would have us take the frame off its own message. */
const neverHopByHop = new Set(['host', 'content-length', 'transfer-encoding', 'content-type', 'expect', 'set-cookie']);

/** Who asks, and how. */
export interface ClientFacts {
  /** Of IPv4 or IPv6, without a port. */
  readonly address: string;
  readonly scheme: 'http' | 'https';
  /** The edgepoint asks by itself, because it is due or a message waits: what the application can know that by, for nobody else may send it. */
  readonly task?: readonly (readonly [name: string, value: string])[] | undefined;
  /** Its connection as it was accepted, for those who ask. */
  endpoints(): Endpoints;
}

/** The head that the application gets: the client's, without what was for us alone, and with who the client is. */
export function forwardRequest(head: RequestHead, client: ClientFacts): string {
  const { section } = head;
  const lines = (section.kept ??= keptLines(section, (field) => !dropsRequestField(field, head)));
  const tunnel = head.upgrade === '' ? '' : `Connection: Upgrade\r\nUpgrade: ${head.upgrade}\r\n`;
  return `${head.method} ${head.target} HTTP/1.1\r\n${lines}${tunnel}${clientLines(head.host, client)}\r\n`;
}

function dropsRequestField(field: Field, head: RequestHead): boolean {
  // Gateways of the CGI kind read `X_Forwarded_For` as `X-Forwarded-For`.
  const key = field.key.includes('_') ? field.key.replaceAll('_', '-') : field.key;
  if (requestFieldsDropped.has(key)) return true;
  if (key === 'expect' && head.minorVersion === 0) return true;
  return namedInConnection(field, head.section.meaning.connectionOptions);
}

const namedInConnection = (field: Field, options: readonly string[]): boolean =>
  options.length > 0 && options.includes(field.key) && !neverHopByHop.has(field.key);

/** We are the first hop that can be believed, so what the client said of itself is replaced, not extended. */
function clientLines(host: string, client: ClientFacts): string {
  const node = client.address.includes(':') ? `"[${client.address}]"` : client.address;
  const task = (client.task ?? []).map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return (
    task +
    `X-Forwarded-For: ${client.address}\r\nX-Forwarded-Proto: ${client.scheme}\r\nX-Forwarded-Host: ${host}\r\n` +
    `Forwarded: for=${node};host="${host}";proto=${client.scheme}\r\n`
  );
}

export interface ResponseWay {
  /** The client's connection goes on after this answer. */
  readonly keepAlive: boolean;
  /** What the client speaks. */
  readonly clientMinorVersion: 0 | 1;
  /** Chunks are taken off on the way, for HTTP/1.0. */
  readonly decoded: boolean;
  /** A cookie of our own that goes with it; missing when there is none. */
  readonly cookie?: string;
}

/** The head that the client gets: the application's, without what was for us alone. */
export function forwardResponse(head: ResponseHead, way: ResponseWay): string {
  return `HTTP/1.1 ${head.status} ${head.reasonPhrase}\r\n${responseLines(head, way)}${cookieLine(way)}${connectionLine(head, way)}\r\n`;
}

const cookieLine = ({ cookie }: ResponseWay): string => (cookie === undefined ? '' : `Set-Cookie: ${cookie}\r\n`);

/** Which lines go on depends on more than themselves in a few cases only; in those it is not remembered. */
function responseLines(head: ResponseHead, way: ResponseWay): string {
  const { section, status } = head;
  const keeps = (field: Field): boolean => !dropsResponseField(field, head, way);
  if (way.decoded || status < 200 || status === 204 || status === 426) return keptLines(section, keeps);
  return (section.kept ??= keptLines(section, keeps));
}

/** The fields of an answer in a protocol that frames bodies itself: lower case names, none of one connection (RFC 9113, section 8.2.2). */
export function responseFields(head: ResponseHead, cookie?: string): readonly (readonly [string, string])[] {
  const way: ResponseWay = { keepAlive: true, clientMinorVersion: 1, decoded: true };
  const own = cookie === undefined ? [] : [['set-cookie', cookie] as const];
  const given = head.section.fields.flatMap((field) => (field.key === 'upgrade' || dropsResponseField(field, head, way) ? [] : [[field.key, fieldValue(head.section.text, field)] as const]));
  return [...given, ...own];
}

function dropsResponseField(field: Field, head: ResponseHead, way: ResponseWay): boolean {
  if (responseFieldsDropped.has(field.key)) return !(field.key === 'upgrade' && (head.status === 101 || head.status === 426));
  if (field.key === 'transfer-encoding') return way.decoded || head.status === 204 || head.status < 200;
  // RFC 9110, section 8.6: no Content-Length in 1xx and 204.
  if (field.key === 'content-length') return head.status === 204 || head.status < 200;
  return namedInConnection(field, head.section.meaning.connectionOptions);
}

function connectionLine(head: ResponseHead, way: ResponseWay): string {
  if (head.status === 101) return 'Connection: Upgrade\r\n';
  if (head.status < 200) return '';
  const also = head.status === 426 ? ', Upgrade' : '';
  if (!way.keepAlive) return `Connection: close${also}\r\n`;
  if (way.clientMinorVersion === 0) return `Connection: keep-alive${also}\r\n`;
  return also === '' ? '' : 'Connection: Upgrade\r\n';
}

/** The field lines that are kept, exactly as written; neighbours leave in one piece. */
function keptLines({ text, fields }: { text: string; fields: readonly Field[] }, keeps: (field: Field) => boolean): string {
  let kept = '';
  let from = 0;
  for (const field of fields) {
    if (keeps(field)) continue;
    kept += text.slice(from, field.start);
    from = field.end;
  }
  return kept + text.slice(from, text.length - 2);
}
