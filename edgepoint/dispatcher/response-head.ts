import { fieldValue, findHeadEnd, listMembers, readFields, readLength, SectionMemo } from './head-lines.ts';
import type { Field, FieldSection } from './head-lines.ts';
import { limits } from './limits.ts';
import type { Framing } from './request-head.ts';
import { allIn, valueCharacter } from './characters.ts';

export interface ResponseHead {
  readonly status: number;
  readonly reasonPhrase: string;
  readonly minorVersion: 0 | 1;
  readonly framing: Framing;
  /** The application will take another request on this connection. */
  readonly keepAlive: boolean;
  /** What the application says of idle connections, in ms (`Keep-Alive: timeout=5`); 0 when it says nothing. */
  readonly keepAliveMs: number;
  /** Server-sent events: a client that ends its side has gone. */
  readonly eventStream: boolean;
  readonly section: ResponseSection;
}

export type ResponseSection = FieldSection<ResponseMeaning>;

/** What its fields say, whatever its status is. */
export interface ResponseMeaning {
  readonly length: string | null;
  readonly coding: string | null;
  readonly keepAliveMs: number;
  readonly eventStream: boolean;
  readonly connectionOptions: readonly string[];
}

export type ResponseHeadResult =
  | { readonly kind: 'complete'; readonly head: ResponseHead; readonly end: number }
  | { readonly kind: 'partial' }
  | { readonly kind: 'refused'; readonly reason: string };

const refused = (reason: string): ResponseHeadResult => ({ kind: 'refused', reason });

/**
 * Reads one response head from the front of `bytes`; never throws. As strict as for requests: an application whose framing
 * can be read in two ways gets a 502, not a guess.
 */
export function readResponseHead(bytes: Buffer, method: string): ResponseHeadResult {
  const found = findHeadEnd(bytes, 0);
  if (found.kind === 'bad') return refused(found.reason);
  if (found.kind === 'partial') {
    return bytes.length > limits.responseHeadBytes ? refused('the head of the answer is too large') : { kind: 'partial' };
  }
  if (found.end > limits.responseHeadBytes) return refused('the head of the answer is too large');
  const text = bytes.toString('latin1', 0, found.end);
  const lineEnd = text.indexOf('\r\n');
  const line = readStatusLine(text.slice(0, lineEnd));
  if (line === null) return refused('the answer does not begin with a status line');
  const section = readSection(text.slice(lineEnd + 2));
  if (typeof section === 'string') return refused(section);
  const { status, reasonPhrase, minorVersion } = line;
  const { length, coding, keepAliveMs, eventStream, connectionOptions } = section.meaning;
  const framing = readFraming({ status, minorVersion, method, length, coding });
  if (typeof framing === 'string') return refused(framing);
  const keepAlive = framing.kind !== 'until-close' && (minorVersion === 1 ? !connectionOptions.includes('close') : connectionOptions.includes('keep-alive'));
  return { kind: 'complete', head: { status, reasonPhrase, minorVersion, framing, keepAlive, keepAliveMs, eventStream, section }, end: found.end };
}

const sections = new SectionMemo<ResponseMeaning>();

/** The text says what is wrong. */
function readSection(text: string): ResponseSection | string {
  const known = sections.find(text);
  if (known !== undefined) return known;
  const fields = readFields(text, 0, limits.responseFields);
  if (fields === 'too-many') return 'the answer has too many fields';
  if ('reason' in fields) return fields.reason;
  const meaning = readMeaning(text, fields);
  return typeof meaning === 'string' ? meaning : sections.remember({ text, fields, meaning, kept: null });
}

interface StatusLine {
  readonly status: number;
  readonly reasonPhrase: string;
  readonly minorVersion: 0 | 1;
}

const firstDigits = '123456789';
const digits = '0123456789';

/** `HTTP/1.1 200 OK`, with or without the words at its end (RFC 9112, section 4). */
function readStatusLine(line: string): StatusLine | null {
  if (!line.startsWith('HTTP/1.1 ') && !line.startsWith('HTTP/1.0 ')) return null;
  if (!firstDigits.includes(line[9] ?? ' ') || !digits.includes(line[10] ?? ' ') || !digits.includes(line[11] ?? ' ')) return null;
  if (line.length > 12 && line[12] !== ' ') return null;
  const reasonPhrase = line.slice(13);
  if (!allIn(valueCharacter, reasonPhrase)) return null;
  return { status: Number(line.slice(9, 12)), reasonPhrase, minorVersion: line[7] === '1' ? 1 : 0 };
}

const noMembers: readonly string[] = [];

function readMeaning(text: string, fields: readonly Field[]): ResponseMeaning | string {
  let length: string | null = null;
  let coding: string | null = null;
  let keepAliveMs = 0;
  let eventStream = false;
  let connection: readonly string[] = noMembers;
  for (const field of fields) {
    switch (field.key) {
      case 'content-length':
        if (length !== null) return 'Content-Length stands twice in the answer';
        length = fieldValue(text, field);
        break;
      case 'transfer-encoding':
        if (coding !== null) return 'Transfer-Encoding stands twice in the answer';
        coding = fieldValue(text, field).toLowerCase();
        break;
      case 'connection':
        connection = [...connection, ...listMembers(fieldValue(text, field))];
        break;
      case 'keep-alive':
        keepAliveMs = Number(/(?:^|[,\s])timeout=(\d{1,5})/i.exec(fieldValue(text, field))?.[1] ?? 0) * 1000;
        break;
      case 'content-type':
        eventStream = fieldValue(text, field).toLowerCase().startsWith('text/event-stream');
        break;
    }
  }
  return { length, coding, keepAliveMs, eventStream, connectionOptions: connection };
}

/** RFC 9112, section 6.3; the text says what is wrong. */
function readFraming(of: { status: number; method: string; minorVersion: 0 | 1; length: string | null; coding: string | null }): Framing | string {
  if (of.coding !== null && of.length !== null) return 'Transfer-Encoding and Content-Length stand together in the answer';
  const bytes = of.length === null ? 0 : readLength(of.length, limits.contentLengthDigits);
  if (bytes === null) return 'Content-Length of the answer is not a number';
  if (of.coding !== null && of.coding !== 'chunked') return 'the answer has a transfer coding other than chunked';
  if (of.coding !== null && of.minorVersion === 0) return 'the answer has Transfer-Encoding in HTTP/1.0';
  if (of.method === 'HEAD' || of.status < 200 || of.status === 204 || of.status === 304) return { kind: 'none' };
  if (of.coding !== null) return { kind: 'chunked' };
  if (of.length === null) return { kind: 'until-close' };
  return bytes === 0 ? { kind: 'none' } : { kind: 'length', bytes };
}
