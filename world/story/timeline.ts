import { z } from 'zod';

const answerSchema = z.object({
  sites: z.array(z.object({ zone: z.string(), edgepoint: z.string(), state: z.object({ instances: z.record(z.string(), z.number()) }).nullable() })),
});

/** Instances of an app by edgepoint and mode, when they were looked at. */
export interface Look {
  readonly atMs: number;
  readonly sites: readonly { readonly edgepoint: string; readonly instances: Readonly<Record<string, number>> }[];
}

/** Instances that hold memory: everything but those that are only an image on disk. */
export function awake(instances: Readonly<Record<string, number>>): number {
  return Object.entries(instances).reduce((sum, [mode, count]) => (mode === 'asleep' || mode === 'failed' ? sum : sum + count), 0);
}

export async function lookAt(conduitUrl: string, token: string, app: string): Promise<Look> {
  const response = await fetch(`${conduitUrl}/v1/apps/${app}`, { headers: { authorization: `Bearer ${token}` } });
  const answer = answerSchema.parse(await response.json());
  return { atMs: performance.now(), sites: answer.sites.map(({ edgepoint, state }) => ({ edgepoint, instances: state?.instances ?? {} })) };
}

/** `paris ##..  2` for each edgepoint: a bar of those awake. */
export function lookText(look: Look, sinceMs: number): string {
  const seconds = ((look.atMs - sinceMs) / 1000).toFixed(1).padStart(5);
  const bars = look.sites.map(({ edgepoint, instances }) => {
    const count = awake(instances);
    return `${edgepoint} ${'#'.repeat(count).padEnd(8, '.')} ${count}`;
  });
  return `${seconds} s   ${bars.join('   ')}`;
}

/** Looks every `stepMs` until `done` says so or the time is over; hands over a look when its counts differ from the last one's. */
export async function watchInstances(
  look: () => Promise<Look>,
  options: { stepMs: number; forMs: number; onChange: (look: Look) => void; done: (look: Look) => boolean },
): Promise<Look> {
  const endMs = performance.now() + options.forMs;
  let shown = '';
  for (;;) {
    const now = await look();
    const text = JSON.stringify(now.sites.map((site) => awake(site.instances)));
    if (text !== shown) options.onChange(now);
    shown = text;
    if (options.done(now) || performance.now() > endMs) return now;
    await Bun.sleep(options.stepMs);
  }
}
