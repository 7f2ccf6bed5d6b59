import type { Hono } from 'hono';
import { z } from 'zod';
import { Failure } from '../../kit/errors.ts';
import { layerPattern } from '../../kit/image.ts';
import type { ApiPorts, Ask, Environment } from './ports.ts';

/** Layers of images, before the release that needs them: asked for by digest, and sent where they are not there. */
export function layerRoutes(api: Hono<Environment>, { layers }: ApiPorts): void {
  api.get('/layers/:digest', async (c) => c.json(await layers.find(c.get('speaker').provider, digestOf(c))));

  api.post('/layers/:digest', async (c) => {
    const { body } = c.req.raw;
    if (!body) throw new Failure('body-missing', 'the layer is missing', { remedy: 'Send the tar.gz as the body of the request.' });
    const length = z.coerce.number().int().min(0).optional().safeParse(c.req.header('content-length'));
    return c.json(await layers.receive(c.get('speaker').provider, digestOf(c), body as unknown as AsyncIterable<Uint8Array>, length.data ?? null), 201);
  });
}

function digestOf(c: Ask): string {
  const digest = c.req.param('digest') ?? '';
  if (layerPattern.test(digest)) return digest;
  throw new Failure('layer-unknown', `${JSON.stringify(digest.slice(0, 80))} is no digest`, { remedy: 'A digest is sha256: and 64 hexadecimal digits.' });
}
