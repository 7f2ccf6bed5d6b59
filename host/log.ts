import pino from 'pino';
import pretty from 'pino-pretty';
import { codeOf } from '../kit/errors.ts';

/** What a daemon says of itself: one JSON line for each entry on stderr, or a readable line when stderr is a terminal. */
export interface Log {
  debug(text: string, fields?: Record<string, unknown>): void;
  info(text: string, fields?: Record<string, unknown>): void;
  warn(text: string, fields?: Record<string, unknown>): void;
  error(text: string, fields?: Record<string, unknown>): void;
  /** A log whose every entry also carries these fields. */
  with(fields: Record<string, unknown>): Log;
}

/** Entries below EDGEPOINT_LOG_LEVEL (`debug`, `info`, `warn`, `error`, `silent`; default `info`) are dropped. */
export function openLog(daemon: string): Log {
  const wanted = process.env['EDGEPOINT_LOG_LEVEL'] ?? 'info';
  const known = ['debug', 'info', 'warn', 'error', 'silent'];
  const options = {
    level: known.includes(wanted) ? wanted : 'info',
    base: { daemon, pid: process.pid },
    messageKey: 'text',
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  // Written at once, so that the last words of a daemon that dies are not lost.
  const destination = process.stderr.isTTY
    ? pretty({ destination: 2, sync: true, messageKey: 'text', ignore: 'pid' })
    : pino.destination({ fd: 2, sync: true });
  const log = wrap(pino(options, destination));
  if (!known.includes(wanted)) log.warn(`EDGEPOINT_LOG_LEVEL is ${JSON.stringify(wanted)}; the levels are ${known.join(', ')}; using info`);
  return log;
}

function wrap(logger: pino.Logger): Log {
  const say = (level: 'debug' | 'info' | 'warn' | 'error') => (text: string, fields: Record<string, unknown> = {}): void => {
    if (logger.isLevelEnabled(level)) logger[level](withoutSecrets(fields) as object, hideSecretText(text));
  };
  return {
    debug: say('debug'),
    info: say('info'),
    warn: say('warn'),
    error: say('error'),
    with: (fields) => wrap(logger.child(withoutSecrets(fields) as pino.Bindings)),
  };
}

const secretWords = new Set(['seed', 'token', 'secret', 'secrets', 'authorization', 'password', 'cookie', 'credential', 'credentials', 'nkey', 'apikey']);
/** A key that ends so names where or how much, not the secret itself: `natsSeedFile`, `tokenCount`. */
const harmlessEnds = new Set(['file', 'path', 'folder', 'count', 'bytes', 'id', 'ms', 'at']);
export const hidden = '[hidden]';
const depthMax = 6;
const listMax = 100;
const textMax = 16_384;

/** A copy of a value with the values of secret keys hidden, errors as plain objects, and depth, lists and texts bounded. */
export function withoutSecrets(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return hideSecretText(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= depthMax) return '[deeper]';
  if (value instanceof Error) {
    const { message, stack, cause } = value;
    const plain: Record<string, unknown> = { code: codeOf(value), message: hideSecretText(message) };
    if (stack !== undefined) plain['stack'] = hideSecretText(stack);
    if (cause !== undefined) plain['cause'] = withoutSecrets(cause, depth + 1);
    return plain;
  }
  if (value instanceof Uint8Array) return `[${value.byteLength} bytes]`;
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) {
    const list = value.slice(0, listMax).map((item) => withoutSecrets(item, depth + 1));
    return value.length > listMax ? [...list, `[${value.length - listMax} more]`] : list;
  }
  const entries = value instanceof Map ? [...value.entries()].map(([key, item]) => [String(key), item] as const) : Object.entries(value);
  return Object.fromEntries(entries.slice(0, listMax).map(([key, item]) => [key, isSecretKey(key) ? hidden : withoutSecrets(item, depth + 1)]));
}

function isSecretKey(key: string): boolean {
  const words = key.replace(/([a-z0-9])([A-Z])/g, '$1 $2').toLowerCase().split(/[^a-z0-9]+/);
  if (!words.some((word) => secretWords.has(word)) && !words.join('').includes('apikey')) return false;
  return !harmlessEnds.has(words.at(-1) ?? '');
}

/** Secrets that can be told by their form: NKEY seeds, bearer and basic credentials, passwords and tokens in URLs. */
export function hideSecretText(text: string): string {
  const bounded = text.length > textMax ? `${text.slice(0, textMax)}[${text.length - textMax} characters more]` : text;
  return bounded
    .replace(/\bS[AUNOCX][A-Z2-7]{50,60}\b/g, hidden)
    .replace(/\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}/gi, `$1 ${hidden}`)
    .replace(/(:\/\/[^\s/:@]*):[^\s/@]+@/g, `$1:${hidden}@`)
    .replace(/([?&](?:authToken|token|secret|password|key)=)[^&\s]+/gi, `$1${hidden}`);
}
