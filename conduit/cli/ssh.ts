import { WebSocket } from 'undici';
import { Failure } from '../../kit/errors.ts';
import { encodeFrame, readFrame, silentMsMax } from '../../kit/wire/access.ts';
import type { AccessFrame } from '../../kit/wire/access.ts';
import { recordBytesMax, sessionSchema } from '../../kit/wire/session.ts';
import type { SessionOrder, SessionTerminal } from '../../kit/wire/session.ts';
import { appAnswerSchema } from '../api/answers.ts';
import type { Client } from './client.ts';
import { enterRawMode } from './raw-terminal.ts';
import { SessionStream } from './session-stream.ts';
import { harmless } from './terminal.ts';

export interface SessionWish {
  /** Below the app's address, with its query. */
  readonly path: string;
  readonly app: string;
  readonly command: readonly string[];
  /** Undefined: as it fits, a terminal for a shell on one. */
  readonly tty: boolean | undefined;
}

/** Of a header; a server takes 16 KiB of all of them. */
const headerBytesMax = 14_000;
/** What a shell says of a process that a signal has ended. */
const signalNumbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/**
 * Runs a command in an instance with this process's stdin, stdout and stderr. Returns its exit status, or 128 and the number of the signal that
 * ended it, or this process. A Failure is of the session itself, never of the command.
 */
export async function runSession(wish: SessionWish, client: Client): Promise<number> {
  const terminal = terminalFor(wish);
  const parsed = sessionSchema.safeParse({ command: [...wish.command], terminal } satisfies SessionOrder);
  if (!parsed.success) throw new Failure('command-line', `the command does not fit: ${parsed.error.issues[0]?.message ?? ''}`);
  const header = Buffer.from(JSON.stringify(parsed.data)).toString('base64url');
  if (header.length > headerBytesMax) throw new Failure('command-line', 'the command is too long', { remedy: 'Send it by stdin: conduit ssh APP -- sh < script' });
  const web = new WebSocket(`${client.url.replace(/^http/, 'ws')}/v1/apps/${encodeURIComponent(wish.app)}${wish.path}`, { headers: { ...client.headers, 'x-session': header } });
  web.binaryType = 'arraybuffer';
  const leaveRawMode = terminal === null ? (): void => undefined : await enterRawMode();
  try {
    return await speak(web, wish, client);
  } finally {
    leaveRawMode();
    web.close();
  }
}

function terminalFor({ command, tty }: SessionWish): SessionTerminal | null {
  const isOn = process.stdin.isTTY === true && process.stdout.isTTY === true;
  if (tty === true && !isOn) throw new Failure('command-line', 'there is no terminal here to work on', { remedy: 'Without -t, the command has pipes.' });
  if (!isOn || !(tty ?? command.length === 0)) return null;
  const type = process.env['TERM'] ?? '';
  return { type: /^[\w.+-]{1,64}$/.test(type) ? type : 'dumb', ...sizeOf() };
}

const sizeOf = (): { rows: number; columns: number } => ({ rows: process.stdout.rows || 24, columns: process.stdout.columns || 80 });

function speak(web: WebSocket, wish: SessionWish, client: Client): Promise<number> {
  return new Promise((resolve, reject) => {
    const fail = (code: string, text: string): void => reject(new Failure(code, harmless(text)));
    const send = (frame: AccessFrame): void => {
      if (web.readyState === WebSocket.OPEN) web.send(encodeFrame(frame));
    };
    const gate = new Gate();
    const stream = new SessionStream({
      send,
      write: (to, bytes, written) => void process[to].write(bytes, () => written()),
      wantsInput: (wants) => gate.set(wants),
      over: (end) => ('status' in end ? resolve(end.status) : fail(end.close.code === '' ? 'access-cut' : end.close.code, end.close.text || 'the session was cut')),
    });
    const silence = setTimeout(() => fail('access-cut', 'the session is silent'), silentMsMax + 5000);
    let isOpen = false;
    let upgraded = false;
    web.addEventListener('open', () => {
      upgraded = true;
      silence.refresh();
    });
    web.addEventListener('message', (event) => {
      silence.refresh();
      const frame = event.data instanceof ArrayBuffer ? readFrame(new Uint8Array(event.data)) : null;
      if (frame?.kind === 'opened' && !isOpen) {
        isOpen = true;
        void feed(stream, gate);
      } else if (frame !== null) stream.take(frame);
    });
    const lost = (): void => {
      clearTimeout(silence);
      if (upgraded) return stream.take({ kind: 'close', close: { code: 'access-cut', text: 'the connection to the conduit was lost' } });
      // A refused upgrade says nothing to a WebSocket; the same question by HTTP says why.
      client.get(`/apps/${encodeURIComponent(wish.app)}`, appAnswerSchema).then(() => fail('conduit-unreachable', `the conduit at ${client.url} takes no session`), reject);
    };
    web.addEventListener('close', lost);
    web.addEventListener('error', lost);
    for (const [signal, number] of Object.entries(signalNumbers)) {
      process.once(signal, () => {
        send({ kind: 'close', close: { code: 'client-gone', text: `the client was ended by ${signal}` } });
        resolve(128 + number);
      });
    }
  });
}

/** Whether more input may be read. */
class Gate {
  private isOpen = true;
  private waits: (() => void)[] = [];

  set(isOpen: boolean): void {
    this.isOpen = isOpen;
    if (isOpen) for (const goOn of this.waits.splice(0)) goOn();
  }

  opened(): Promise<void> {
    return this.isOpen ? Promise.resolve() : new Promise((resolve) => this.waits.push(resolve));
  }
}

/** Input, from when the command is there. It is asked for rather than paused and resumed: in Bun 1.4 an end that comes while it is paused is lost at times. */
async function feed(stream: SessionStream, gate: Gate): Promise<void> {
  const { stdin, stdout } = process;
  if (stdin.isTTY) stdout.on('resize', () => stream.say({ kind: 'size', ...sizeOf() }));
  try {
    for await (const bytes of stdin as AsyncIterable<Buffer>) {
      for (let at = 0; at < bytes.length; at += recordBytesMax) stream.say({ kind: 'input', bytes: bytes.subarray(at, at + recordBytesMax) });
      await gate.opened();
    }
  } catch {
    // Its terminal has gone: that is the end of it too.
  }
  stream.say({ kind: 'input-end' });
}
