import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { WebSocket } from 'undici';
import { SocketStream } from '../../host/socket-stream.ts';
import { Failure } from '../../kit/errors.ts';
import { encodeFrame, readFrame } from '../../kit/wire/access.ts';
import type { AccessClose, AccessFrame } from '../../kit/wire/access.ts';
import { appAnswerSchema } from '../api/answers.ts';
import type { Client } from './client.ts';
import { harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

export interface ConnectOrder {
  readonly app: string;
  readonly port: number;
  /** On this machine; 0 for any free one. */
  readonly localPort: number;
  /** An edgepoint, or null for whichever. */
  readonly at: string | null;
}

/** After these no connection can work: the command ends. */
const endingCodes = new Set(['token-wrong', 'app-unknown', 'edgepoint-unknown']);

/** `5432` or `5432:15432`: the port in the instance, and that of this machine when it is another. */
export function readPorts(text: string): { port: number; localPort: number } {
  const match = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text);
  const port = Number(match?.[1]);
  const localPort = Number(match?.[2] ?? port);
  if (match !== null && port >= 1 && port <= 65_535 && localPort <= 65_535) return { port, localPort };
  throw new Failure('command-line', `${JSON.stringify(text)} is no port, or pair of ports`, { remedy: 'Give PORT, or PORT:LOCAL, as in 5432:15432.' });
}

/** Listens on this machine alone until it is interrupted; each connection goes to that port in an instance of the app. */
export async function connectApp(order: ConnectOrder, client: Client, terminal: Terminal): Promise<void> {
  const open = new Set<Socket>();
  let fail = (failure: Failure): void => void failure;
  const failed = new Promise<never>((_resolve, reject) => (fail = reject));
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    carry(socket, order, client, (close) => {
      if (close.code === '' || close.code === 'access-reset') return;
      if (endingCodes.has(close.code)) return fail(new Failure(close.code, harmless(close.text)));
      process.stderr.write(terminal.json ? `${JSON.stringify({ code: close.code, message: close.text })}\n` : `conduit: ${harmless(close.text)}\n`);
    });
  });
  const localPort = await listen(server, order.localPort);
  terminal.tell({ listening: `127.0.0.1:${localPort}`, app: order.app, port: order.port });
  terminal.say(`127.0.0.1:${localPort} leads to port ${order.port} of ${order.app}; Ctrl-C ends it.`);
  const interrupted = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, resolve);
  });
  try {
    await Promise.race([interrupted, failed]);
  } finally {
    server.close();
    for (const socket of open) socket.destroy();
  }
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(new Failure('port-taken', `port ${port} of this machine cannot be listened on: ${error.message}`, { remedy: 'Name another, as in PORT:LOCAL; 0 takes any.' })));
    server.listen(port, '127.0.0.1', () => resolve((server.address() as { port: number }).port));
  });
}

/** One connection, by a WebSocket of its own. It is not read before an instance is there for it. */
function carry(socket: Socket, order: ConnectOrder, client: Client, over: (close: AccessClose) => void): void {
  const query = new URLSearchParams({ port: String(order.port), ...(order.at === null ? {} : { at: order.at }) });
  const web = new WebSocket(`${client.url.replace(/^http/, 'ws')}/v1/apps/${encodeURIComponent(order.app)}/access?${query.toString()}`, { headers: client.headers });
  web.binaryType = 'arraybuffer';
  let stream: SocketStream | null = null;
  let upgraded = false;
  let ended = false;
  const end = (close: AccessClose): void => {
    if (ended) return;
    ended = true;
    web.close();
    if (stream === null) socket.resetAndDestroy();
    over(close);
  };
  const send = (frame: AccessFrame): void => {
    if (web.readyState === WebSocket.OPEN) web.send(encodeFrame(frame));
  };
  web.addEventListener('open', () => (upgraded = true));
  web.addEventListener('message', (event) => {
    const frame = event.data instanceof ArrayBuffer ? readFrame(new Uint8Array(event.data)) : null;
    if (frame?.kind === 'opened' && stream === null) {
      stream = new SocketStream(socket, { send, over: end });
      socket.resume();
    } else if (stream !== null && frame !== null) stream.take(frame);
    else if (frame?.kind === 'close') end(frame.close);
  });
  const lost = (): void => {
    if (ended) return;
    const close = { code: 'access-cut', text: 'the connection to the conduit was lost' };
    if (upgraded) return stream === null ? end(close) : stream.take({ kind: 'close', close });
    // A refused upgrade says nothing to a WebSocket; the same question by HTTP says why.
    client.get(`/apps/${encodeURIComponent(order.app)}`, appAnswerSchema).then(
      () => end({ code: 'conduit-unreachable', text: `the conduit at ${client.url} takes no WebSocket` }),
      (thrown: unknown) => end({ code: thrown instanceof Failure ? thrown.code : 'unexpected', text: thrown instanceof Error ? thrown.message : String(thrown) }),
    );
  };
  web.addEventListener('close', lost);
  web.addEventListener('error', lost);
  // Before it has been opened nobody else looks after the socket.
  socket.on('error', () => undefined);
  socket.once('close', () => {
    if (stream === null) end({ code: '', text: '' });
  });
}
