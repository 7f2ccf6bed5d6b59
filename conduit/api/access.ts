import type { Hono } from 'hono';
import { z } from 'zod';
import type { ServerWebSocket, WebSocketHandler } from 'bun';
import { frameBytesMax } from '../../kit/wire/access.ts';
import { windowBytes } from '../../kit/flow.ts';
import { Failure } from '../../kit/errors.ts';
import { chooseAccessSite } from '../access/choose-site.ts';
import type { AccessClient, AccessOrder, AccessRelay, AccessSocketData } from '../access/relay.ts';
import type { StoredApp } from '../store/apps.ts';
import type { ApiPorts, Ask, Environment } from './ports.ts';

const querySchema = z.object({ port: z.coerce.number().int().min(1).max(65_535), at: z.string().max(100).optional() });

/** `GET /apps/APP/access?port=N`: a WebSocket, whose messages are frames of an access (kit/wire/access.ts). */
export function accessRoutes(api: Hono<Environment>, ports: ApiPorts, own: (c: Ask) => Promise<StoredApp>): void {
  api.get('/apps/:app/access', async (c) => {
    const app = await own(c);
    const query = querySchema.safeParse(c.req.query());
    if (!query.success) throw new Failure('query-invalid', `the query’s ${JSON.stringify(query.error.issues[0]?.path.join('.') ?? '')} does not fit`);
    const { sites } = await ports.describe(app);
    const order: AccessOrder = { owner: app.owner, tokenId: c.get('speaker').tokenId, kind: 'connect', port: query.data.port, to: chooseAccessSite(sites, query.data.at ?? null) };
    if (!c.env.upgrade({ order, access: null })) throw new Failure('upgrade-missing', 'this is a WebSocket', { remedy: 'Ask for an upgrade; `conduit connect` does.' });
    // The connection is the WebSocket's from here on.
    return new Response(null);
  });
}

/** The WebSockets of accesses, as Bun.serve takes them. A client that does not read is cut when it has two windows to read. */
export function accessSockets(relay: AccessRelay): WebSocketHandler<AccessSocketData> {
  return {
    maxPayloadLength: frameBytesMax,
    backpressureLimit: 2 * windowBytes,
    closeOnBackpressureLimit: true,
    idleTimeout: 60,
    perMessageDeflate: false,
    open: (socket) => {
      socket.data.access = relay.begin(socket.data.order, clientOf(socket));
    },
    message: (socket, message) => {
      if (typeof message === 'string') socket.close(1003, 'frames are binary');
      else socket.data.access?.fromClient(message);
    },
    close: (socket) => socket.data.access?.clientGone(),
  };
}

function clientOf(socket: ServerWebSocket<AccessSocketData>): AccessClient {
  return {
    // -1: it waits in the socket; 0: it was dropped (ServerWebSocket.send).
    send: (frame) => socket.readyState === 1 && socket.sendBinary(frame as Uint8Array<ArrayBuffer>) !== 0,
    close: () => socket.close(1000),
  };
}
