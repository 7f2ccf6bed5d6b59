import net from 'node:net';
import { concatenate } from '../wire/response.ts';
import { Frames, framed } from './frames.ts';
import { cannotListen } from './listen.ts';
import type { Place } from './listen.ts';

/** RFC 7766 6.1 and 6.2: what a server may bound. */
export interface TcpLimits {
  readonly connectionsMax: number;
  readonly connectionsPerClientMax: number;
  /** A connection on which no whole query came for so long is closed, at most an eighth later; bytes of an unfinished one do not count. */
  readonly idleMs: number;
  /** Unread answers of one client; above it we stop reading its queries until it takes them. */
  readonly unsentBytesMax: number;
}

export interface TcpSocket {
  readonly address: string;
  readonly connections: number;
  stop(): void;
}

/**
 * All that wait in the kernel's queue (net.core.somaxconn) are accepted before any of them is read. So the table is trimmed a
 * moment after it overflowed: those who came with a query are served by then, and those who came with nothing give way.
 */
const burstMax = 4096;
const burstMs = 20;

interface Connection {
  readonly socket: net.Socket;
  readonly client: string;
  readonly frames: Frames;
  lastQueryMs: number;
}

/** Answers queries on connections at one place, in the order they came. When the table is full, the connection idle for longest gives way. */
export async function openTcp(
  place: Place,
  limits: TcpLimits,
  respond: (message: Uint8Array, address: string) => Uint8Array | null,
  onError: (thrown: unknown) => void,
): Promise<TcpSocket> {
  /** In the order of their last whole query, the longest idle first. */
  const connections = new Set<Connection>();
  const perClient = new Map<string, number>();
  let trimming: ReturnType<typeof setTimeout> | null = null;

  const touch = (connection: Connection): void => {
    connection.lastQueryMs = performance.now();
    connections.delete(connection);
    connections.add(connection);
  };
  const forget = (connection: Connection): void => {
    if (!connections.delete(connection)) return;
    const left = (perClient.get(connection.client) ?? 1) - 1;
    if (left === 0) perClient.delete(connection.client);
    else perClient.set(connection.client, left);
  };
  const trim = (keep: number): void => {
    if (trimming !== null) clearTimeout(trimming);
    trimming = null;
    for (const longestIdle of connections) {
      if (connections.size <= keep) return;
      forget(longestIdle);
      longestIdle.socket.destroy();
    }
  };
  const sweeping = setInterval(() => {
    const idleSinceMs = performance.now() - limits.idleMs;
    for (const longestIdle of connections) {
      if (longestIdle.lastQueryMs > idleSinceMs) return;
      forget(longestIdle);
      longestIdle.socket.destroy();
    }
  }, limits.idleMs / 8);
  const receive = (connection: Connection, chunk: Uint8Array): void => {
    const { socket, frames } = connection;
    const responses: Uint8Array[] = [];
    for (const message of frames.push(chunk)) {
      const response = respond(message, connection.client);
      // What is no query comes from no resolver; it must not keep a connection alive.
      if (response === null) return void socket.destroy();
      responses.push(framed(response));
    }
    if (responses.length === 0 || !connections.has(connection)) return;
    touch(connection);
    socket.write(concatenate(responses));
    if (socket.writableLength > limits.unsentBytesMax) {
      socket.pause();
      socket.once('drain', () => socket.resume());
    }
  };

  const server = net.createServer({ noDelay: true }, (socket) => {
    const client = socket.remoteAddress ?? '';
    socket.on('error', onError);
    const clients = perClient.get(client) ?? 0;
    if (client === '' || clients >= limits.connectionsPerClientMax) {
      socket.destroy();
      return;
    }
    perClient.set(client, clients + 1);
    const connection: Connection = { socket, client, frames: new Frames(), lastQueryMs: 0 };
    touch(connection);
    if (connections.size >= limits.connectionsMax + burstMax) trim(limits.connectionsMax);
    else if (connections.size > limits.connectionsMax) trimming ??= setTimeout(trim, burstMs, limits.connectionsMax);
    socket.on('close', () => forget(connection));
    socket.on('data', (chunk: Uint8Array) => receive(connection, chunk));
  });
  const where = place.kind === 'address' ? `${place.host} port ${place.port}` : `descriptor ${place.descriptor}`;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen('TCP', where, error)));
    if (place.kind === 'address') server.listen({ port: place.port, host: place.host, ipv6Only: place.family === 6, backlog: 511 }, resolve);
    else server.listen({ fd: place.descriptor }, resolve);
  });
  server.removeAllListeners('error');
  server.on('error', onError);
  const bound = server.address();
  return {
    address: bound === null || typeof bound === 'string' ? where : bound.family === 'IPv6' ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`,
    get connections() {
      return connections.size;
    },
    stop: () => {
      server.close();
      clearInterval(sweeping);
      if (trimming !== null) clearTimeout(trimming);
      for (const connection of connections) connection.socket.destroy();
    },
  };
}
