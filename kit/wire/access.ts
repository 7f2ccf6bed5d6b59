import { z } from 'zod';
import { sessionSchema } from './session.ts';
import { defineMessage, encodeMessage, parseMessage } from './version.ts';

/**
 * An access: a stream of bytes between a provider's own machine and an instance of its app. Its frames go as messages of a WebSocket
 * between the command line and the conduit, and, with a number before each, as messages of the bus between the conduit and the
 * edgepoint. A frame is one byte that says its kind, and what belongs to it.
 */
export const accessKinds = ['connect', 'ssh', 'run'] as const;
export type AccessKind = (typeof accessKinds)[number];

/** The first frame to an edgepoint. */
const openSchema = z
  .object({
    provider: z.string(),
    scope: z.string(),
    app: z.string(),
    kind: z.enum(accessKinds),
    /** Of `connect`: where the program listens, in an instance. */
    port: z.int().min(1).max(65_535).optional(),
    /** Of the other kinds: what runs, and how. The stream is one of records (session.ts). */
    session: sessionSchema.optional(),
  })
  .refine(({ kind, port, session }) => (kind === 'connect' ? port !== undefined : session !== undefined), 'its port or its session is missing');
export type AccessOpen = z.output<typeof openSchema>;
/** What is wanted of an app. */
export type AccessWish = Pick<AccessOpen, 'kind' | 'port' | 'session'>;
export const accessOpenMessage = defineMessage('access-open', { major: 1, minor: 1 }, openSchema);

const openedSchema = z.object({ instance: z.string().max(64) });
export type AccessOpened = z.output<typeof openedSchema>;
/** `code` is empty when it ended as it should; otherwise a stable code, with a sentence. */
const closeSchema = z.object({ code: z.string().max(64), text: z.string().max(1000) });
export type AccessClose = z.output<typeof closeSchema>;

export type AccessFrame =
  | { readonly kind: 'open'; readonly open: AccessOpen }
  /** From the edgepoint: it has begun, in that instance. */
  | { readonly kind: 'opened'; readonly opened: AccessOpened }
  | { readonly kind: 'data'; readonly bytes: Uint8Array }
  /** So many more bytes may come (kit/flow.ts). */
  | { readonly kind: 'credit'; readonly bytes: number }
  /** No more data comes from this side. */
  | { readonly kind: 'end' }
  /** The last frame; nothing answers it. */
  | { readonly kind: 'close'; readonly close: AccessClose }
  /** Somebody is there. */
  | { readonly kind: 'beat' };

const kinds = ['open', 'opened', 'data', 'credit', 'end', 'close', 'beat'] as const;
/** Of one frame; more is sent in several. */
export const dataBytesMax = 32 * 1024;
/** The longest frame there is, without its number. */
export const frameBytesMax = dataBytesMax + 1;

export function encodeFrame(frame: AccessFrame): Uint8Array {
  switch (frame.kind) {
    case 'open':
      return withKind(frame.kind, textBytes(encodeMessage(accessOpenMessage, frame.open)));
    case 'opened':
      return withKind(frame.kind, textBytes(JSON.stringify(frame.opened)));
    case 'data':
      return withKind(frame.kind, frame.bytes);
    case 'credit': {
      const bytes = new Uint8Array(4);
      viewOf(bytes).setUint32(0, frame.bytes);
      return withKind(frame.kind, bytes);
    }
    case 'close':
      return withKind(frame.kind, textBytes(JSON.stringify({ code: frame.close.code.slice(0, 64), text: frame.close.text.slice(0, 1000) })));
    case 'end':
    case 'beat':
      return withKind(frame.kind, new Uint8Array());
  }
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const textBytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function withKind(kind: AccessFrame['kind'], payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(1 + payload.length);
  frame[0] = kinds.indexOf(kind) + 1;
  frame.set(payload, 1);
  return frame;
}

/** Never throws: null for what is no frame. The bytes of `data` are those given, not a copy. */
export function readFrame(bytes: Uint8Array): AccessFrame | null {
  const kind = kinds[(bytes[0] ?? 0) - 1];
  if (kind === undefined || bytes.length > frameBytesMax) return null;
  const payload = bytes.subarray(1);
  switch (kind) {
    case 'open': {
      const parsed = parseMessage(accessOpenMessage, payload);
      return parsed.ok ? { kind, open: parsed.value } : null;
    }
    case 'opened': {
      const parsed = openedSchema.safeParse(jsonOf(payload));
      return parsed.success ? { kind, opened: parsed.data } : null;
    }
    case 'data':
      return payload.length === 0 ? null : { kind, bytes: payload };
    case 'credit':
      return payload.length === 4 ? { kind, bytes: viewOf(payload).getUint32(0) } : null;
    case 'close': {
      const parsed = closeSchema.safeParse(jsonOf(payload));
      return parsed.success ? { kind, close: parsed.data } : null;
    }
    case 'end':
    case 'beat':
      return payload.length === 0 ? { kind } : null;
  }
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return null;
  }
}

/** On the bus a message may be lost with a connection: a number before each frame tells, for a stream with a hole must not go on. */
export function numbered(number: number, frame: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + frame.length);
  viewOf(bytes).setUint32(0, number);
  bytes.set(frame, 4);
  return bytes;
}

/** Null for what is too short to have one. */
export function readNumbered(bytes: Uint8Array): { readonly number: number; readonly frame: Uint8Array } | null {
  if (bytes.length < 5) return null;
  return { number: viewOf(bytes).getUint32(0), frame: bytes.subarray(4) };
}

/** Each side says this often that it is there, and takes the other for gone after so long without a word. */
export const beatMs = 5000;
export const silentMsMax = 30_000;
