import type { Hono } from 'hono';
import { z } from 'zod';
import type { ServerWebSocket, WebSocketHandler } from 'bun';
import { frameBytesMax } from '../../kit/wire/access.ts';
import type { AccessWish } from '../../kit/wire/access.ts';
import { sessionSchema } from '../../kit/wire/session.ts';
import type { SessionOrder } from '../../kit/wire/session.ts';
import { windowBytes } from '../../kit/flow.ts';
import { Failure } from '../../kit/errors.ts';
import { chooseAccessSite } from '../access/choose-site.ts';
import type { ChosenSite } from '../access/choose-site.ts';
import type { AccessClient, AccessRelay, AccessSocketData } from '../access/relay.ts';
import type { StoredApp } from '../store/apps.ts';
import { accessesListedMax } from '../store/audit.ts';
import type { AccessesAnswer, AppAtSite } from './answers.ts';
import type { ApiPorts, Ask, Environment } from './ports.ts';

const atSchema = z.string().max(100).optional();
const querySchema = z.object({ port: z.coerce.number().int().min(1).max(65_535), at: atSchema });
const sessionQuerySchema = z.object({ at: atSchema });
const runQuerySchema = z.object({ at: atSchema, timeout: z.coerce.number().int().min(1).max(86_400).default(3600) });

/** What runs, and how (kit/wire/session.ts): JSON in base64url. Not in the address, which is written into many logs. */
export const sessionHeader = 'x-session';

/**
 * `GET /apps/APP/access?port=N`, and `GET /apps/APP/ssh` and `GET /apps/APP/run` with a header: WebSockets, whose messages are frames of an access (kit/wire/access.ts).
 * `GET /apps/APP/accesses?last=N`: the record of them.
 */
export function accessRoutes(api: Hono<Environment>, ports: ApiPorts, own: (c: Ask) => Promise<StoredApp>): void {
  const open = async (c: Ask, wish: AccessWish, at: string | null): Promise<Response> => {
    const app = await own(c);
    const choose = (sites: readonly AppAtSite[]): ChosenSite => chooseAccessSite(sites, at);
    const to = choose(
      await ports.sitesOnce(app, (sites) => {
        const chosen = choose(sites);
        return chosen.ok || chosen.code !== 'no-edgepoint';
      }),
    );
    const { tokenId } = c.get('speaker');
    // Before it begins, so that none is ever there that nobody has written down.
    const audited = await ports.audit.begin({ owner: app.owner, tokenId, wish, site: to.ok ? to.site : null, begunWallMs: ports.wallMs() });
    if (!c.env.upgrade({ order: { owner: app.owner, tokenId, wish, to, audited }, access: null })) {
      await ports.audit.ended(audited, { tookMs: 0, code: 'upgrade-missing', exitStatus: null });
      throw new Failure('upgrade-missing', 'this is a WebSocket', { remedy: 'Ask for an upgrade; `conduit connect` and `conduit ssh` do.' });
    }
    // The connection is the WebSocket's from here on.
    return new Response(null);
  };
  api.get('/apps/:app/access', async (c) => {
    const query = querySchema.safeParse(c.req.query());
    if (!query.success) throw new Failure('query-invalid', `the query’s ${JSON.stringify(query.error.issues[0]?.path.join('.') ?? '')} does not fit`);
    return open(c, { kind: 'connect', port: query.data.port }, query.data.at ?? null);
  });
  api.get('/apps/:app/ssh', async (c) => {
    const query = sessionQuerySchema.safeParse(c.req.query());
    if (!query.success) throw new Failure('query-invalid', 'the query’s "at" does not fit');
    return open(c, { kind: 'ssh', session: sessionOf(c) }, query.data.at ?? null);
  });
  api.get('/apps/:app/run', async (c) => {
    const query = runQuerySchema.safeParse(c.req.query());
    if (!query.success) throw new Failure('query-invalid', `the query’s ${JSON.stringify(query.error.issues[0]?.path.join('.') ?? '')} does not fit`);
    const session = sessionOf(c);
    if (session.command.length === 0) throw new Failure('session-invalid', 'there is no command to run');
    return open(c, { kind: 'run', session: { ...session, timeoutSeconds: query.data.timeout } }, query.data.at ?? null);
  });
  api.get('/apps/:app/accesses', async (c) => {
    const query = z.object({ last: z.coerce.number().int().min(1).max(accessesListedMax).default(50) }).safeParse(c.req.query());
    if (!query.success) throw new Failure('query-invalid', 'the query’s "last" does not fit');
    const { owner } = await own(c);
    const answer: AccessesAnswer = { app: owner.app, accesses: [...(await ports.audit.list(owner, query.data.last))] };
    return c.json(answer);
  });
}

function sessionOf(c: Ask): SessionOrder {
  try {
    const parsed = sessionSchema.safeParse(JSON.parse(Buffer.from(c.req.header(sessionHeader) ?? '', 'base64url').toString()));
    if (parsed.success) return parsed.data;
    throw new Failure('session-invalid', `the session does not fit: ${parsed.error.issues[0]?.message ?? ''}`);
  } catch (thrown) {
    throw thrown instanceof Failure ? thrown : new Failure('session-invalid', `the header ${sessionHeader} does not say what to run`);
  }
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
