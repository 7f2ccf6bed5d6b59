import { allIn, isToken, valueCharacter } from './characters.ts';
import { limits } from './limits.ts';

/** One field line of a head, by where it stands in the head's text, so that it can be left out when forwarding. */
export interface Field {
  /** Lower case. */
  readonly key: string;
  /** The line from `start` to `end`, closing CRLF included. */
  readonly start: number;
  readonly end: number;
}

/**
 * The field lines of a head, closing empty line included, and what they say. Clients and applications send the same ones again and again,
 * so they are read once (`SectionMemo`); nothing of it changes but `kept`.
 */
export interface FieldSection<Meaning> {
  readonly text: string;
  readonly fields: readonly Field[];
  readonly meaning: Meaning;
  /** The lines that go on, once somebody has asked for them. */
  kept: string | null;
}

/** Sections read before, by their text: the same bytes mean the same. Small ones only, few, and forgotten together. */
export class SectionMemo<Meaning> {
  private readonly known = new Map<string, FieldSection<Meaning>>();

  find(text: string): FieldSection<Meaning> | undefined {
    return this.known.get(text);
  }

  remember(section: FieldSection<Meaning>): FieldSection<Meaning> {
    if (section.text.length > limits.knownSectionBytes) return section;
    if (this.known.size >= limits.knownSections) this.known.clear();
    this.known.set(section.text, section);
    return section;
  }
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

const isBlank = (code: number): boolean => code === 32 || code === 9;

/** The value of a field, without the white space around it. Most values are never asked for, so none is cut out beforehand. */
export function fieldValue(text: string, field: Field): string {
  let start = field.start + field.key.length + 1;
  let end = field.end - 2;
  while (start < end && isBlank(text.charCodeAt(start))) start += 1;
  while (end > start && isBlank(text.charCodeAt(end - 1))) end -= 1;
  return text.slice(start, end);
}

/** Keys of names seen before, as written: clients and applications use few, again and again. */
const keys = new Map<string, string>();

/** The lower case of a field name, or '' when it is no name. */
function keyOf(name: string): string {
  const known = keys.get(name);
  if (known !== undefined) return known;
  if (!isToken(name)) return '';
  const key = name.toLowerCase();
  if (keys.size < limits.knownFieldNames && name.length <= limits.knownFieldNameBytes) keys.set(name, key);
  return key;
}

/** The field lines of a head's text from `start` up to its closing empty line, or a reason why it is refused (RFC 9112, section 5). */
export function readFields(text: string, start: number, fieldsMax: number): readonly Field[] | 'too-many' | { readonly reason: string } {
  const fields: Field[] = [];
  const last = text.length - 2;
  let at = start;
  while (at < last) {
    const lineEnd = text.indexOf('\r\n', at);
    if (fields.length === fieldsMax) return 'too-many';
    if (isBlank(text.charCodeAt(at))) return { reason: 'a field line is folded' };
    const colon = text.indexOf(':', at);
    if (colon < 0 || colon >= lineEnd) return { reason: 'a field line has no colon' };
    const key = keyOf(text.slice(at, colon));
    if (key === '') return { reason: 'a field name has a character that is not allowed there' };
    if (!allIn(valueCharacter, text, colon + 1, lineEnd)) return { reason: `the value of ${key} has a control character` };
    fields.push({ key, start: at, end: lineEnd + 2 });
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
