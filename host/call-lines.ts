import type { Socket } from 'node:net';
import { Failure, codeOf, messageOf } from '../kit/errors.ts';
import type { Log } from './log.ts';

/**
 * What runs over one connection of `host/calls.ts`: JSON objects, one in a line, in both directions.
 *   { i, m, p }  calls method `m` with `p`; answered by { i, r } or { i, e: { code, message, remedy } }
 *   { m, p }     tells; not answered
 */

/** Methods by name; may return a promise. A thrown Failure travels with its code, message and remedy. */
export type Handlers = Record<string, (params: never, peer: Peer) => unknown>;

/** The other end of one connection. */
export interface Peer {
  /** Rejects with the Failure the other side threw, `peer-gone` when the connection breaks, `peer-slow` after timeoutMs (default 60,000). */
  call(method: string, params: unknown, options?: { timeoutMs?: number }): Promise<unknown>;
  tell(method: string, params: unknown): void;
  /** Resolves when the connection has ended; never rejects. */
  readonly closed: Promise<void>;
}

/** A longer line ends the connection. */
export const lineBytesMax = 4 * 1024 * 1024;
/** Calls under way in one direction of one connection; further ones are refused with `too-many-calls`. */
export const callsMax = 4096;
/** Bytes a peer has left unread; more ends the connection, so that a peer that hangs cannot fill our memory. */
const unreadBytesMax = 4 * lineBytesMax;
const timeoutMsDefault = 60_000;
const newline = 0x0a;
/** Pieces of an unfinished line kept apart before they are joined. */
const partsMax = 256;

interface Call {
  readonly method: string;
  readonly resolve: (result: unknown) => void;
  readonly reject: (failure: Failure) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

interface Line {
  readonly i?: unknown;
  readonly m?: unknown;
  readonly p?: unknown;
  readonly r?: unknown;
  readonly e?: unknown;
}

/** Speaks over a connected socket until it ends. */
export function openWire(socket: Socket, handlers: Handlers, log: Log): { readonly peer: Peer; end(): void } {
  const calls = new Map<number, Call>();
  let lastId = 0;
  let underWay = 0;
  let open = true;
  let sayClosed: () => void;
  const closed = new Promise<void>((resolve) => {
    sayClosed = resolve;
  });

  const breakOff = (reason: string, fields: Record<string, unknown> = {}): void => {
    log.warn(`peer cut off: ${reason}`, fields);
    socket.destroy();
  };
  const send = (line: Line): void => {
    if (!open) return;
    const text = JSON.stringify(line);
    if (text.length > lineBytesMax / 3 && Buffer.byteLength(text) >= lineBytesMax) {
      throw new Failure('message-too-long', `a message of ${text.length} characters does not fit in a line of ${lineBytesMax} bytes`);
    }
    socket.write(`${text}\n`);
    if (socket.writableLength > unreadBytesMax) breakOff('it does not read', { unreadBytes: socket.writableLength });
  };
  const answer = (id: unknown, work: () => unknown, method: string): void => {
    const refuse = (thrown: unknown): void => {
      if (!(thrown instanceof Failure)) log.error('a call failed unexpectedly', { method, error: thrown });
      send({ i: id, e: { code: codeOf(thrown), message: messageOf(thrown), remedy: thrown instanceof Failure ? thrown.remedy : '' } });
    };
    const accept = (result: unknown): void => {
      try {
        send({ i: id, r: result ?? null });
      } catch (thrown) {
        refuse(thrown);
      }
    };
    let result: unknown;
    try {
      result = work();
    } catch (thrown) {
      return refuse(thrown);
    }
    if (!(result instanceof Promise)) return accept(result);
    underWay += 1;
    result.then(accept, refuse).finally(() => {
      underWay -= 1;
    });
  };
  const hear = (line: Line): void => {
    if (typeof line.m === 'string') return line.i === undefined ? heardNews(line.m, line.p) : heardCall(line.i, line.m, line.p);
    const call = typeof line.i === 'number' ? calls.get(line.i) : undefined;
    // An answer that comes after its call has timed out finds nobody.
    if (call === undefined) return;
    calls.delete(line.i as number);
    clearTimeout(call.timer);
    if (line.e === undefined) call.resolve(line.r);
    else call.reject(failureOf(line.e, call.method));
  };
  const handlerOf = (method: string): ((params: unknown, peer: Peer) => unknown) | null =>
    Object.hasOwn(handlers, method) ? (handlers[method] as (params: unknown, peer: Peer) => unknown) : null;
  const heardCall = (id: unknown, method: string, params: unknown): void =>
    answer(
      id,
      () => {
        const handler = handlerOf(method);
        if (handler === null) throw new Failure('no-such-call', `nobody here answers ${JSON.stringify(method.slice(0, 100))}`);
        if (underWay >= callsMax) throw new Failure('too-many-calls', `${callsMax} calls are already under way`);
        return handler(params, peer);
      },
      method,
    );
  const heardNews = (method: string, params: unknown): void => {
    const handler = handlerOf(method);
    if (handler === null) return log.warn('news that nobody here takes', { method: method.slice(0, 100) });
    const failed = (error: unknown): void => log.error('news could not be taken', { method, error });
    try {
      const result = handler(params, peer);
      if (result instanceof Promise) result.catch(failed);
    } catch (error) {
      failed(error);
    }
  };

  const peer: Peer = {
    closed,
    tell: (method, params) => send({ m: method, p: params }),
    call: (method, params, { timeoutMs = timeoutMsDefault } = {}) =>
      new Promise((resolve, reject) => {
        if (!open) return reject(new Failure('peer-gone', `the connection closed before ${method} was called`));
        if (calls.size >= callsMax) return reject(new Failure('too-many-calls', `${callsMax} calls are already under way`));
        lastId += 1;
        const id = lastId;
        send({ i: id, m: method, p: params });
        const timer = setTimeout(() => {
          calls.delete(id);
          reject(new Failure('peer-slow', `${method} was not answered within ${timeoutMs} ms`));
        }, timeoutMs);
        calls.set(id, { method, resolve, reject, timer });
      }),
  };

  const hearBytes = splitLines(
    (text) => {
      let line: unknown;
      try {
        line = JSON.parse(text);
      } catch {
        return breakOff('it sends what is not JSON');
      }
      if (typeof line !== 'object' || line === null || Array.isArray(line)) return breakOff('it sends JSON that is not an object');
      hear(line as Line);
    },
    () => breakOff(`it sends a line over ${lineBytesMax} bytes`),
  );
  socket.on('data', (bytes: Buffer) => {
    if (!socket.destroyed) hearBytes(bytes, () => socket.destroyed);
  });
  socket.on('error', (error) => log.debug('connection broke', { error: codeOf(error) }));
  socket.on('close', () => {
    open = false;
    for (const call of calls.values()) {
      clearTimeout(call.timer);
      call.reject(new Failure('peer-gone', `the connection broke while ${call.method} was under way`));
    }
    calls.clear();
    sayClosed();
  });
  return { peer, end: () => socket.destroy() };
}

/** Cuts a stream of bytes into lines; a line is decoded only when whole, so that no character is cut in two. */
function splitLines(onLine: (text: string) => void, onTooLong: () => void): (bytes: Buffer, stopped: () => boolean) => void {
  let parts: Buffer[] = [];
  let partBytes = 0;
  return (bytes, stopped) => {
    let from = 0;
    for (let end = bytes.indexOf(newline); end >= 0 && !stopped(); end = bytes.indexOf(newline, from)) {
      if (partBytes + end - from > lineBytesMax) return onTooLong();
      if (partBytes === 0) onLine(bytes.toString('utf8', from, end));
      else {
        parts.push(bytes.subarray(from, end));
        const whole = Buffer.concat(parts);
        parts = [];
        partBytes = 0;
        onLine(whole.toString('utf8'));
      }
      from = end + 1;
    }
    if (from < bytes.length && !stopped()) {
      parts.push(bytes.subarray(from));
      partBytes += bytes.length - from;
      // A line that comes byte by byte must not cost a buffer for each.
      if (parts.length >= partsMax) parts = [Buffer.concat(parts)];
      if (partBytes > lineBytesMax) onTooLong();
    }
  };
}

function failureOf(told: unknown, method: string): Failure {
  const { code, message, remedy } = (typeof told === 'object' && told !== null ? told : {}) as Record<string, unknown>;
  return new Failure(typeof code === 'string' ? code : 'unexpected', typeof message === 'string' ? message : `${method} failed`, {
    remedy: typeof remedy === 'string' ? remedy : '',
  });
}
