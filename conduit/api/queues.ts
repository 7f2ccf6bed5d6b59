import type { Hono } from 'hono';
import { Failure } from '../../kit/errors.ts';
import { contentTypePattern, queueBodyBytesMax } from '../../kit/wire/queue.ts';
import { tooBig } from '../queues/queues.ts';
import type { StoredApp } from '../store/apps.ts';
import type { MessageSent } from './answers.ts';
import type { ApiPorts, Ask, Environment } from './ports.ts';

/** Messages for apps: what is sent is the body as it is, with its Content-Type. */
export function queueRoutes(api: Hono<Environment>, { queues }: ApiPorts, own: (c: Ask) => Promise<StoredApp>): void {
  const named = (c: Ask, name: 'queue' | 'id'): string => c.req.param(name) ?? '';

  api.post('/apps/:app/queues/:queue/messages', async (c) => {
    const app = await own(c);
    const contentType = c.req.header('content-type') ?? 'application/octet-stream';
    if (!contentTypePattern.test(contentType)) throw new Failure('query-invalid', 'Content-Type is longer than 200 characters, or not of printable ASCII');
    const sent = await queues.send(app, named(c, 'queue'), { contentType, body: await readBody(c) });
    return c.json({ app: app.owner.app, queue: named(c, 'queue'), ...sent } satisfies MessageSent, 201);
  });

  api.get('/apps/:app/queues', async (c) => c.json(await queues.list(await own(c))));

  api.post('/apps/:app/queues/:queue/messages/:id/retry', async (c) => {
    await queues.retry(await own(c), named(c, 'queue'), named(c, 'id'));
    return c.json({ id: named(c, 'id'), done: true });
  });

  api.delete('/apps/:app/queues/:queue/messages/:id', async (c) => {
    await queues.remove(await own(c), named(c, 'queue'), named(c, 'id'));
    return c.json({ id: named(c, 'id'), done: true });
  });
}

async function readBody(c: Ask): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of (c.req.raw.body ?? []) as unknown as AsyncIterable<Uint8Array>) {
    bytes += part.byteLength;
    if (bytes > queueBodyBytesMax) throw tooBig();
    parts.push(part);
  }
  return Buffer.concat(parts);
}
