import { allIn, hostCharacter, isToken, targetCharacter } from './characters.ts';
import { fieldValue, findHeadEnd, listMembers, readFields, readLength, SectionMemo } from './head-lines.ts';
import type { Field, FieldSection } from './head-lines.ts';
import { limits } from './limits.ts';

/** How the body of a message is delimited (RFC 9112, section 6.3). */
export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' }
  /** Answers only: the body ends with the connection. */
  | { readonly kind: 'until-close' };

export interface RequestHead {
  readonly method: string;
  /** Origin-form, or `*` for OPTIONS. */
  readonly target: string;
  readonly minorVersion: 0 | 1;
  /** As the client wrote it. */
  readonly host: string;
  /** Lower case, without port and closing dot: what routes are found by. */
  readonly hostName: string;
  readonly framing: Framing;
  /** The client wants the connection kept after this exchange. */
  readonly keepAlive: boolean;
  /** The protocol asked for by Upgrade, when the request may become a tunnel; else ''. */
  readonly upgrade: string;
  readonly expectContinue: boolean;
  readonly section: RequestSection;
}

/** Its fields, as latin-1 text. */
export type RequestSection = FieldSection<RequestMeaning>;

export interface Refusal {
  readonly status: number;
  readonly reason: string;
}

export type RequestHeadResult =
  | { readonly kind: 'complete'; readonly head: RequestHead; readonly end: number }
  | { readonly kind: 'partial' }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

const refused = (status: number, reason: string): RequestHeadResult => ({ kind: 'refused', refusal: { status, reason } });

/** Reads one request head from the front of `bytes`, strictly as RFC 9112 has it; never throws, whatever the bytes. */
export function readRequestHead(bytes: Buffer): RequestHeadResult {
  // RFC 9112, section 2.2: one empty line before a request line is ignored.
  const start = bytes.length >= 2 && bytes[0] === 13 && bytes[1] === 10 ? 2 : 0;
  const found = findHeadEnd(bytes, start);
  if (found.kind === 'bad') return refused(400, found.reason);
  if (found.kind === 'partial') {
    if (bytes.length - start > limits.requestHeadBytes) return refused(431, `a request head is larger than ${limits.requestHeadBytes} bytes`);
    if (bytes.length - start > limits.requestLineBytes && bytes.indexOf('\r\n', start, 'latin1') < 0) return lineTooLong();
    return beginsLikeRequest(bytes, start) ? { kind: 'partial' } : refused(400, 'that is not HTTP');
  }
  if (found.end - start > limits.requestHeadBytes) return refused(431, `a request head is larger than ${limits.requestHeadBytes} bytes`);
  return readWholeHead(bytes.toString('latin1', start, found.end), found.end);
}

const lineTooLong = (): RequestHeadResult => refused(414, `a request line is longer than ${limits.requestLineBytes} bytes`);

/** Refuses TLS and other protocols at their first bytes instead of waiting for a head that never ends. */
function beginsLikeRequest(bytes: Buffer, start: number): boolean {
  for (let at = start; at < bytes.length && at - start <= limits.methodBytes; at += 1) {
    const code = bytes[at] ?? 0;
    if (code === 32) return at > start;
    if (code === 13 && at === start && bytes.length === at + 1) return true;
    if (!isToken(String.fromCharCode(code))) return false;
  }
  return bytes.length - start <= limits.methodBytes;
}

/** Reads a whole head, its closing empty line included, that is text already; `end` is where its bytes ended. */
export function readWholeHead(text: string, end: number): RequestHeadResult {
  const lineEnd = text.indexOf('\r\n');
  if (lineEnd > limits.requestLineBytes) return lineTooLong();
  const line = readRequestLine(text.slice(0, lineEnd));
  if ('status' in line) return { kind: 'refused', refusal: line };
  const section = readSection(text.slice(lineEnd + 2), line.minorVersion);
  if ('status' in section) return { kind: 'refused', refusal: section };
  const { meaning } = section;
  const where = readWhere(line.method, line.target, meaning.host);
  if ('status' in where) return { kind: 'refused', refusal: where };
  const { framing } = meaning;
  // A request with a body never becomes a tunnel: where its body ends and the tunnel begins is read differently by different servers.
  const upgrade = framing.kind === 'none' && line.minorVersion === 1 ? meaning.upgrade : '';
  const { host, keepAlive, expectContinue } = meaning;
  const head: RequestHead = {
    method: line.method,
    target: where.target,
    minorVersion: line.minorVersion,
    host,
    hostName: where.hostName,
    framing,
    keepAlive,
    upgrade,
    expectContinue,
    section,
  };
  return { kind: 'complete', head, end };
}

/** Those of HTTP/1.1; the few of HTTP/1.0 mean something else. */
const sections = new SectionMemo<RequestMeaning>();

function readSection(text: string, minorVersion: 0 | 1): RequestSection | Refusal {
  const known = minorVersion === 1 ? sections.find(text) : undefined;
  if (known !== undefined) return known;
  const fields = readFields(text, 0, limits.requestFields);
  if (fields === 'too-many') return { status: 431, reason: `a request has more than ${limits.requestFields} fields` };
  if ('reason' in fields) return { status: 400, reason: fields.reason };
  const meaning = readMeaning(text, fields, minorVersion);
  if ('status' in meaning) return meaning;
  const section: RequestSection = { text, fields, meaning, kept: null };
  return minorVersion === 1 ? sections.remember(section) : section;
}

function readRequestLine(line: string): { method: string; target: string; minorVersion: 0 | 1 } | Refusal {
  const first = line.indexOf(' ');
  const last = line.lastIndexOf(' ');
  if (first <= 0 || last === first) return { status: 400, reason: 'a request line is not method, target and version' };
  const method = line.slice(0, first);
  const target = line.slice(first + 1, last);
  const version = line.slice(last + 1);
  if (method.length > limits.methodBytes || !isToken(method)) return { status: 400, reason: 'a method has a character that is not allowed there' };
  if (target === '' || !allIn(targetCharacter, target)) return { status: 400, reason: 'a request target has a character that is not allowed there' };
  if (version === 'HTTP/1.1') return { method, target, minorVersion: 1 };
  if (version === 'HTTP/1.0') return { method, target, minorVersion: 0 };
  if (/^HTTP\/\d\.\d$/.test(version)) return { status: 505, reason: `${version} is not spoken here` };
  return { status: 400, reason: 'a request line does not end in a version' };
}

const noMembers: readonly string[] = [];

export interface RequestMeaning {
  readonly host: string;
  readonly framing: Framing;
  readonly keepAlive: boolean;
  readonly upgrade: string;
  readonly expectContinue: boolean;
  /** Names in Connection: the lines of these fields do not go on. */
  readonly connectionOptions: readonly string[];
}

/** What the fields that matter to framing and routing say together. */
function readMeaning(text: string, fields: readonly Field[], minorVersion: 0 | 1): RequestMeaning | Refusal {
  let host: string | null = null;
  let length: string | null = null;
  let coding: string | null = null;
  let expect = '';
  let upgrade = '';
  let connection: readonly string[] = noMembers;
  for (const field of fields) {
    switch (field.key) {
      case 'host':
        if (host !== null) return { status: 400, reason: 'Host stands twice' };
        host = fieldValue(text, field);
        break;
      case 'content-length':
        if (length !== null) return { status: 400, reason: 'Content-Length stands twice' };
        length = fieldValue(text, field);
        break;
      case 'transfer-encoding':
        if (coding !== null) return { status: 400, reason: 'Transfer-Encoding stands twice' };
        coding = fieldValue(text, field).toLowerCase();
        break;
      case 'connection':
        connection = [...connection, ...listMembers(fieldValue(text, field))];
        break;
      case 'upgrade':
        upgrade = upgrade === '' ? fieldValue(text, field) : `${upgrade}, ${fieldValue(text, field)}`;
        break;
      case 'expect':
        expect = fieldValue(text, field).toLowerCase();
        break;
      case 'content_length':
      case 'transfer_encoding':
        // Gateways that turn `-` into `_` would take these for the real ones.
        return { status: 400, reason: `${field.key} imitates a framing field` };
    }
  }
  if (host === null) return { status: 400, reason: 'Host is missing' };
  if (expect !== '' && expect !== '100-continue') return { status: 417, reason: `Expect: ${expect} is not understood` };
  const framing = readFraming(length, coding, minorVersion);
  if ('status' in framing) return framing;
  const keepAlive = minorVersion === 1 ? !connection.includes('close') : connection.includes('keep-alive') && !connection.includes('close');
  return {
    host,
    framing,
    keepAlive,
    upgrade: connection.includes('upgrade') && maybeTunnel(upgrade) ? upgrade : '',
    expectContinue: expect !== '' && minorVersion === 1,
    connectionOptions: connection,
  };
}

/** HTTP/2 over an upgrade would carry requests past our routing; it is left out, and the request is answered as HTTP/1.1. */
const maybeTunnel = (upgrade: string): boolean => upgrade !== '' && !listMembers(upgrade).some((protocol) => protocol.startsWith('h2c') || protocol.startsWith('http'));

function readFraming(length: string | null, coding: string | null, minorVersion: 0 | 1): Framing | Refusal {
  if (coding !== null) {
    if (length !== null) return { status: 400, reason: 'Transfer-Encoding and Content-Length stand together' };
    if (minorVersion === 0) return { status: 400, reason: 'Transfer-Encoding in HTTP/1.0' };
    if (coding !== 'chunked') return { status: 501, reason: 'a transfer coding other than chunked is not understood' };
    return { kind: 'chunked' };
  }
  if (length === null) return { kind: 'none' };
  const bytes = readLength(length, limits.contentLengthDigits);
  if (bytes === null) return { status: 400, reason: 'Content-Length is not a number that can be' };
  return bytes === 0 ? { kind: 'none' } : { kind: 'length', bytes };
}

/** Where the request goes: the target in origin-form and the host it is routed by (RFC 9112, section 3.2). */
function readWhere(method: string, target: string, host: string): { target: string; hostName: string } | Refusal {
  const hostName = readHostName(host);
  if (hostName === null) return { status: 400, reason: 'Host is not a host name' };
  if (method === 'CONNECT' || method === 'TRACE') return { status: 405, reason: `${method} is not allowed here` };
  if (target.startsWith('/')) return { target, hostName };
  if (target === '*' && method === 'OPTIONS') return { target, hostName };
  const absolute = /^http:\/\/([^/?#]*)(.*)$/i.exec(target);
  if (absolute === null) return { status: 400, reason: 'a request target is neither a path nor an http URL' };
  if (readHostName(absolute[1] ?? '') !== hostName) return { status: 400, reason: 'the request target and Host name different hosts' };
  const rest = absolute[2] ?? '';
  return { target: rest.startsWith('/') ? rest : `/${rest}`, hostName };
}

/** Lower case, without port and closing dot; null when it is no host. An IPv6 address keeps its brackets. */
export function readHostName(host: string): string | null {
  const known = hostNames.get(host);
  if (known !== undefined) return known;
  const name = parseHostName(host);
  if (name === null || host.length > limits.knownFieldNameBytes) return name;
  // Few hosts are asked for again and again; when strangers fill the memory it begins anew.
  if (hostNames.size >= limits.knownHosts) hostNames.clear();
  hostNames.set(host, name);
  return name;
}

const hostNames = new Map<string, string>();

function parseHostName(host: string): string | null {
  if (host.length === 0 || host.length > 260 || !allIn(hostCharacter, host)) return null;
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+)(?::(\d{0,5}))?$/.exec(host);
  if (match === null) return null;
  const name = (match[1] ?? '').toLowerCase();
  return name.endsWith('.') ? name.slice(0, -1) || null : name;
}
