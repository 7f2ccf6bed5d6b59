import { z } from 'zod';

/**
 * Every message between parts carries `v: "MAJOR.MINOR"`. A reader ignores fields it does not know (a higher minor),
 * and refuses a major it does not know with a reason that says which it does.
 */
export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: string };

export interface MessageType<Schema extends z.ZodObject> {
  readonly name: string;
  readonly major: number;
  readonly minor: number;
  readonly schema: Schema;
}

export function defineMessage<Schema extends z.ZodObject>(
  name: string,
  version: { major: number; minor: number },
  schema: Schema,
): MessageType<Schema> {
  return { name, ...version, schema };
}

/** The JSON text of a message, with its version first. */
export function encodeMessage<Schema extends z.ZodObject>(type: MessageType<Schema>, value: z.input<Schema>): string {
  return JSON.stringify({ v: `${type.major}.${type.minor}`, ...value });
}

/** Parses JSON text or bytes; never throws. */
export function parseMessage<Schema extends z.ZodObject>(
  type: MessageType<Schema>,
  payload: string | Uint8Array,
): Parsed<z.output<Schema>> {
  let raw: unknown;
  try {
    raw = JSON.parse(typeof payload === 'string' ? payload : new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch {
    return { ok: false, reason: `${type.name}: not JSON` };
  }
  return parseMessageValue(type, raw);
}

/** As parseMessage, for a value already parsed. */
export function parseMessageValue<Schema extends z.ZodObject>(type: MessageType<Schema>, raw: unknown): Parsed<z.output<Schema>> {
  const version = z.object({ v: z.string().regex(/^\d{1,4}\.\d{1,4}$/) }).safeParse(raw);
  if (!version.success) return { ok: false, reason: `${type.name}: no version` };
  const major = Number(version.data.v.split('.')[0]);
  if (major !== type.major) {
    return { ok: false, reason: `${type.name}: version ${version.data.v} is not understood here, only ${type.major}.x` };
  }
  const parsed = type.schema.safeParse(raw);
  if (parsed.success) return { ok: true, value: parsed.data };
  const first = parsed.error.issues[0];
  return { ok: false, reason: `${type.name}: ${first ? `${first.path.join('.')}: ${first.message}` : 'does not fit'}` };
}
