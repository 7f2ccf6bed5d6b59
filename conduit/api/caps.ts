import type { Hono } from 'hono';
import { z } from 'zod';
import { monthOf } from '../../kit/wire/spending.ts';
import { Failure } from '../../kit/errors.ts';
import { ownApp } from '../deploy.ts';
import { decideSpending, spentOf } from '../spending/decide.ts';
import { readWebhookUrl, secretBytes, secretText } from '../spending/webhook.ts';
import type { CapsAnswer, WebhookAnswer } from './answers.ts';
import type { Ask, CapPorts, Environment } from './ports.ts';

const alertsShown = 20;
const bodyBytesMax = 10_000;

/** Caps of a provider, what the month has cost, and who is told. */
export function capRoutes(api: Hono<Environment>, ports: CapPorts): void {
  const { caps, spending } = ports;
  const appAsked = async (c: Ask): Promise<string> => {
    const app = c.req.query('app') ?? '';
    // One that is set for an app which is gone can be taken away.
    if (app !== '' && c.req.method !== 'DELETE') await ownApp(ports.apps, c.get('speaker'), app);
    return app;
  };

  api.get('/caps', async (c) => c.json(await describeCaps(ports, c.get('speaker').provider)));

  api.post('/caps', async (c) => {
    const { provider } = c.get('speaker');
    const micros = z.coerce.number().int().min(1).max(1e15).safeParse(c.req.query('micros'));
    if (!micros.success) throw new Failure('query-invalid', 'the query’s "micros" is no amount: a whole number of millionths, 1 or more');
    await caps.set(provider, { app: await appAsked(c), micros: micros.data });
    await spending.judge(provider);
    ports.onChange();
    return c.json(await describeCaps(ports, provider));
  });

  api.delete('/caps', async (c) => {
    const { provider } = c.get('speaker');
    const app = await appAsked(c);
    if (!(await caps.remove(provider, app))) throw new Failure('cap-unknown', app === '' ? 'there is no cap for all apps' : `${app} has no cap of its own`, { remedy: '`conduit cap` shows those there are.' });
    await spending.judge(provider);
    ports.onChange();
    return c.json(await describeCaps(ports, provider));
  });

  api.post('/caps/webhook', async (c) => {
    const { provider } = c.get('speaker');
    const text = await c.req.text();
    const body = text.length > bodyBytesMax ? null : z.object({ url: z.string() }).safeParse(jsonOf(text));
    if (body === null || !body.success) throw new Failure('body-invalid', 'the body is not of the form {"url": "https://…"}');
    const url = readWebhookUrl(body.data.url, ports.webhooksAnywhere).href;
    const secret = secretText(ports.randomBytes(secretBytes));
    await caps.setWebhook(provider, { url, secret: await ports.seal(provider, secret) });
    ports.onChange();
    return c.json({ url, secret } satisfies WebhookAnswer, 201);
  });

  api.delete('/caps/webhook', async (c) => {
    const { provider } = c.get('speaker');
    await caps.setWebhook(provider, null);
    return c.json(await describeCaps(ports, provider));
  });
}

export async function describeCaps(ports: Pick<CapPorts, 'apps' | 'caps' | 'spending' | 'wallMs'>, provider: string): Promise<CapsAnswer> {
  const { caps, spending } = ports;
  const [theirs, alerts, webhook, apps] = await Promise.all([caps.list(provider), caps.alerts(provider, alertsShown), caps.webhook(provider), ports.apps.list(provider)]);
  const spent = spending.spent(provider);
  const nowWallMs = ports.wallMs();
  const month = monthOf(nowWallMs);
  const { stopped } = decideSpending({ nowWallMs, caps: theirs, spent, apps: apps.map(({ owner }) => owner.app) });
  const names = [...new Set([...apps.map(({ owner }) => owner.app), ...[...spent].flatMap(([app, told]) => (told.month >= month ? [app] : []))])].toSorted();
  return {
    provider,
    month,
    currency: spending.currency,
    apps: names.map((app) => ({ app, micros: spentOf(spent, month, app), capMicros: theirs.find((cap) => cap.app === app)?.micros ?? null, stopped: stopped.get(app)?.reason ?? '' })),
    all: { micros: spentOf(spent, month, ''), capMicros: theirs.find((cap) => cap.app === '')?.micros ?? null },
    webhook: webhook?.url ?? null,
    alerts: alerts.map((alert) => ({ ...alert })),
  };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
