import { allIn, isToken, valueCharacter } from './characters.ts';

/** One field line of a head, with where its line stands in the head's text, so that it can be left out when forwarding. */
export interface Field {
  /** As written. */
  readonly name: string;
  /** Lower case. */
  readonly key: string;
  readonly value: string;
  /** The line from `start` to `end`, closing CRLF included. */
  readonly start: number;
  readonly end: number;
}

export type HeadEnd =
  /** `end` is the index after the empty line. */
  | { readonly kind: 'complete'; readonly end: number }
  | { readonly kind: 'partial' }
  | { readonly kind: 'bad'; readonly reason: string };

const lineFeed = 10;
const carriageReturn = 13;

/**
 * Where the head that begins at `start` ends. A line feed without its carriage return is refused at once, even in a head that is
 * not complete yet, so that a client cannot hold a connection with lines we would never accept.
 */
export function findHeadEnd(bytes: Buffer, start: number): HeadEnd {
  const end = bytes.indexOf('\r\n\r\n', start, 'latin1');
  if (end >= 0) return { kind: 'complete', end: end + 4 };
  for (let at = bytes.indexOf(lineFeed, start); at >= 0; at = bytes.indexOf(lineFeed, at + 1)) {
    if (at === start || bytes[at - 1] !== carriageReturn) return { kind: 'bad', reason: 'a line ends in a bare line feed' };
  }
  return { kind: 'partial' };
}

const trimStart = (text: string, start: number, end: number): number => {
  let at = start;
  while (at < end && (text.charCodeAt(at) === 32 || text.charCodeAt(at) === 9)) at += 1;
  return at;
};
const trimEnd = (text: string, start: number, end: number): number => {
  let at = end;
  while (at > start && (text.charCodeAt(at - 1) === 32 || text.charCodeAt(at - 1) === 9)) at -= 1;
  return at;
};

/** The field lines of a head's text from `start` up to its closing empty line, or a reason why it is refused (RFC 9112, section 5). */
export function readFields(text: string, start: number, fieldsMax: number): readonly Field[] | 'too-many' | { readonly reason: string } {
  const fields: Field[] = [];
  const last = text.length - 2;
  let at = start;
  while (at < last) {
    const lineEnd = text.indexOf('\r\n', at);
    if (fields.length === fieldsMax) return 'too-many';
    const first = text.charCodeAt(at);
    if (first === 32 || first === 9) return { reason: 'a field line is folded' };
    const colon = text.indexOf(':', at);
    if (colon < 0 || colon >= lineEnd) return { reason: 'a field line has no colon' };
    const name = text.slice(at, colon);
    if (!isToken(name)) return { reason: 'a field name has a character that is not allowed there' };
    if (!allIn(valueCharacter, text, colon + 1, lineEnd)) return { reason: `the value of ${name} has a control character` };
    const valueStart = trimStart(text, colon + 1, lineEnd);
    const value = text.slice(valueStart, trimEnd(text, valueStart, lineEnd));
    fields.push({ name, key: name.toLowerCase(), value, start: at, end: lineEnd + 2 });
    at = lineEnd + 2;
  }
  return fields;
}

/** The members of a comma-separated list, lower case, without the empty ones. */
export function listMembers(value: string): readonly string[] {
  if (!value.includes(',')) return value === '' ? [] : [value.toLowerCase()];
  return value
    .split(',')
    .map((member) => member.trim().toLowerCase())
    .filter((member) => member !== '');
}

/** A content-length of digits only, or null. */
export function readLength(value: string, digitsMax: number): number | null {
  if (value.length === 0 || value.length > digitsMax) return null;
  for (let at = 0; at < value.length; at += 1) {
    const code = value.charCodeAt(at);
    if (code < 48 || code > 57) return null;
  }
  return Number(value);
}
