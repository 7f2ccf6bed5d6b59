import { z } from 'zod';
import { awake } from './timeline.ts';

const appsSchema = z.object({
  apps: z.array(
    z.object({
      app: z.string(),
      condition: z.string(),
      sites: z.array(z.object({ edgepoint: z.string(), state: z.object({ instances: z.record(z.string(), z.number()) }).nullable() })),
    }),
  ),
});

export interface LiveOptions {
  readonly conduitUrl: string;
  readonly token: string;
  readonly say: (line: string) => void;
}

const awayMs = 1000;

/**
 * Says a line whenever instances of any of the provider's apps appear or go: pushed by the conduit, as to its page. Begins again
 * when the conduit was away; ends with the process.
 */
export async function showLiveStatus(options: LiveOptions): Promise<never> {
  const shown = new Map<string, string>();
  for (;;) {
    await followOnce(options, shown).catch(() => undefined); // it was away, or the world is ending
    await Bun.sleep(awayMs);
  }
}

async function followOnce({ conduitUrl, token, say }: LiveOptions, shown: Map<string, string>): Promise<void> {
  const signedIn = await fetch(`${conduitUrl}/sign-in`, { method: 'POST', redirect: 'manual', body: new URLSearchParams({ token }) });
  const cookie = signedIn.headers.get('set-cookie')?.split(';')[0] ?? '';
  const live = await fetch(`${conduitUrl}/live`, { headers: { cookie } });
  if (!live.ok || live.body === null) throw new Error(`the conduit does not tell its live state (${live.status})`);
  const reader = live.body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    for (const [app, line] of await linesNow(conduitUrl, token)) {
      if (shown.get(app) === line) continue;
      shown.set(app, line);
      say(`  ${new Date().toISOString().slice(11, 19)}  ${line}`);
    }
  }
}

async function linesNow(conduitUrl: string, token: string): Promise<Map<string, string>> {
  const answer = await fetch(`${conduitUrl}/v1/apps`, { headers: { authorization: `Bearer ${token}` } });
  const { apps } = appsSchema.parse(await answer.json());
  return new Map(
    apps.map(({ app, condition, sites }) => {
      const counts = sites.map(({ edgepoint, state }) => `${edgepoint} ${awake(state?.instances ?? {})}`).join(', ');
      return [app, `${app.padEnd(16)} ${condition.padEnd(10)} instances awake: ${counts}`];
    }),
  );
}
