/** Domain names on the wire (RFC 1035 3.1 and 4.1.4). */

export const nameBytesMax = 255;
export const labelBytesMax = 63;
const headerBytes = 12;

export interface ReadName {
  /** Lower-case labels joined by dots, without the closing dot; a byte that is not a letter, digit, `-`, `_` or `*` is `\DDD`, so two different names never share a key. */
  readonly key: string;
  /** Where reading goes on behind the name. */
  readonly next: number;
}

/**
 * Reads the name at `offset`, following compression. Null when it runs out of the message, is too long, has a label type other
 * than 0 and 3, or has a pointer that does not point backwards, behind the header: each jump goes strictly down, so loops end.
 */
export function readName(message: Uint8Array, offset: number): ReadName | null {
  let key = '';
  let nameBytes = 1;
  let at = offset;
  let lowest = offset;
  let next = -1;
  for (;;) {
    const length = message[at];
    if (length === undefined) return null;
    if (length === 0) return { key, next: next === -1 ? at + 1 : next };
    if (length >= 0xc0) {
      const low = message[at + 1];
      if (low === undefined) return null;
      const target = ((length & 0x3f) << 8) | low;
      if (target >= lowest || target < headerBytes) return null;
      if (next === -1) next = at + 2;
      lowest = target;
      at = target;
      continue;
    }
    nameBytes += length + 1;
    if (length > labelBytesMax || nameBytes > nameBytesMax || at + 1 + length > message.length) return null;
    key += (key === '' ? '' : '.') + labelKey(message, at + 1, length);
    at += 1 + length;
  }
}

function labelKey(message: Uint8Array, start: number, length: number): string {
  let text = '';
  for (let at = start; at < start + length; at += 1) {
    const byte = message[at] ?? 0;
    if (byte >= 0x41 && byte <= 0x5a) text += String.fromCharCode(byte + 0x20);
    else if ((byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39) || byte === 0x2d || byte === 0x5f || byte === 0x2a) text += String.fromCharCode(byte);
    else text += `\\${String(byte).padStart(3, '0')}`;
  }
  return text;
}

/** Skips a name without following its pointer; the offset behind it, or null when it runs out of the message. */
export function skipName(message: Uint8Array, offset: number): number | null {
  let at = offset;
  for (;;) {
    const length = message[at];
    if (length === undefined) return null;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2 <= message.length ? at + 2 : null;
    if (length > labelBytesMax || at - offset > nameBytesMax) return null;
    at += 1 + length;
  }
}

/** A host name as a table key: lower case, no closing dot; null when no label of it could be one (letters, digits, `-`, `_`). */
export function hostKey(text: string): string | null {
  const key = (text.endsWith('.') ? text.slice(0, -1) : text).toLowerCase();
  const labels = key.split('.');
  if (key.length + 2 > nameBytesMax || !labels.every((label) => /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label))) return null;
  return key;
}

/** The wire form, uncompressed, of a key that `hostKey` gave. */
export function nameBytes(key: string): Uint8Array {
  const bytes: number[] = [];
  for (const label of key === '' ? [] : key.split('.')) {
    bytes.push(label.length);
    for (let at = 0; at < label.length; at += 1) bytes.push(label.charCodeAt(at));
  }
  return Uint8Array.from([...bytes, 0]);
}

/** The key without its first label; empty for a key of one label. */
export function parentKey(key: string): string {
  const dot = key.indexOf('.');
  return dot === -1 ? '' : key.slice(dot + 1);
}
