import { z } from 'zod';

/**
 * A session: a command that runs in an instance for its provider, and the records that go over its access as a stream of bytes. A record is
 * one byte that says its kind, two for the length of its payload (big endian), and the payload. `edgepoint/box/session.c` speaks them at
 * the other end.
 */

/** Of all words of a command together. */
export const commandBytesMax = 8192;
const wordsMax = 256;
const bytesOf = (text: string): number => new TextEncoder().encode(text).length;

export const terminalSchema = z.object({
  /** TERM of the command. */
  type: z.string().regex(/^[\w.+-]{1,64}$/),
  rows: z.int().min(1).max(10_000),
  columns: z.int().min(1).max(10_000),
});
export type SessionTerminal = z.output<typeof terminalSchema>;

export const sessionSchema = z.object({
  /** Empty: a shell. */
  command: z
    .array(z.string().refine((word) => !word.includes('\0'), 'a word with a NUL'))
    .max(wordsMax)
    .refine((words) => words.reduce((all, word) => all + bytesOf(word) + 1, 0) <= commandBytesMax, `a command over ${commandBytesMax} bytes`)
    .refine((words) => words.length === 0 || words[0] !== '', 'a command without a name'),
  /** Null: stdin, stdout and stderr are pipes. */
  terminal: terminalSchema.nullable(),
  /** Of `run`: how long it may take; missing: as long as anybody says something (`ssh`). */
  timeoutSeconds: z.int().min(1).max(86_400).optional(),
});
export type SessionOrder = z.output<typeof sessionSchema>;

export type SessionRecord =
  | { readonly kind: 'input'; readonly bytes: Uint8Array }
  | { readonly kind: 'input-end' }
  | { readonly kind: 'size'; readonly rows: number; readonly columns: number }
  | { readonly kind: 'output'; readonly bytes: Uint8Array }
  | { readonly kind: 'errors'; readonly bytes: Uint8Array }
  /** The last one. `signal` 0 when the command ended by itself; `status` is what a shell would say of it: 128 and the signal when not. */
  | { readonly kind: 'exit'; readonly status: number; readonly signal: number }
  /** The last one: it was not begun. */
  | { readonly kind: 'failed'; readonly text: string };

const kinds: Readonly<Record<SessionRecord['kind'], number>> = { input: 1, 'input-end': 2, size: 3, output: 16, errors: 17, exit: 18, failed: 19 };
const headBytes = 3;
/** Of one record's payload. */
export const recordBytesMax = 32_768;

/** What a client sends. */
export function encodeRecord(record: Extract<SessionRecord, { kind: 'input' | 'input-end' | 'size' }>): Uint8Array {
  const payload = record.kind === 'input' ? record.bytes : record.kind === 'size' ? Uint8Array.of(record.rows >> 8, record.rows & 255, record.columns >> 8, record.columns & 255) : new Uint8Array();
  const bytes = new Uint8Array(headBytes + payload.length);
  bytes.set([kinds[record.kind], payload.length >> 8, payload.length & 255]);
  bytes.set(payload, headBytes);
  return bytes;
}

/** Cuts the stream that comes from an instance into records; holds at most one that is not whole yet. */
export class RecordReader {
  #rest: Uint8Array = new Uint8Array();

  /** Null when what comes is no record: the stream is broken. */
  take(bytes: Uint8Array): SessionRecord[] | null {
    let rest = this.#rest.length === 0 ? bytes : joined(this.#rest, bytes);
    const records: SessionRecord[] = [];
    while (rest.length >= headBytes) {
      const length = ((rest[1] ?? 0) << 8) | (rest[2] ?? 0);
      if (length > recordBytesMax) return null;
      if (rest.length < headBytes + length) break;
      const record = recordOf(rest[0] ?? 0, rest.subarray(headBytes, headBytes + length));
      if (record === null) return null;
      records.push(record);
      rest = rest.subarray(headBytes + length);
    }
    this.#rest = rest.slice();
    return records;
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

function recordOf(kind: number, payload: Uint8Array): SessionRecord | null {
  if (kind === kinds.output) return { kind: 'output', bytes: payload };
  if (kind === kinds.errors) return { kind: 'errors', bytes: payload };
  if (kind === kinds.failed) return { kind: 'failed', text: new TextDecoder().decode(payload).trim() };
  if (kind !== kinds.exit || payload.length !== 2) return null;
  const [killed = 0, value = 0] = payload;
  return { kind: 'exit', status: killed === 1 ? 128 + value : value, signal: killed === 1 ? value : 0 };
}
