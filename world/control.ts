import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { codeOf, Failure, messageOf } from '../kit/errors.ts';
import { formatMs } from '../kit/units.ts';
import type { Daemon } from './daemons.ts';
import { journalledWorlds, readJournal, supervisorIsAlive } from './journal.ts';
import { worldsFolder } from './plan.ts';
import type { WorldPlan } from './plan.ts';
import type { Supervisor } from './supervise.ts';
import { makeFolder, rootUser } from './users.ts';

/** What a world tells of its upgrade, one JSON object a line; the last one is `done` or `failed`. */
type Told = { readonly renewed: string; readonly tookMs: number } | { readonly failed: string; readonly why: string; readonly left: readonly string[] } | { readonly done: number };

const socketOf = (id: string): string => join(worldsFolder, id, 'control/world.sock');

/** A dispatcher lets exchanges end for five seconds, a restored what it has begun. */
const graceMs = 15_000;

/** The door of root to a world that is up: POST /upgrade. One upgrade at a time. */
export function openControl(plan: WorldPlan, supervisor: Pick<Supervisor, 'renew'>, daemons: readonly Daemon[]): { stop(): void } {
  makeFolder(join(plan.runFolder, 'control'), rootUser, 0o700);
  let upgrading = false;
  const server = Bun.serve({
    unix: socketOf(plan.id),
    fetch: (request, self) => {
      self.timeout(request, 0);
      if (request.method !== 'POST' || new URL(request.url).pathname !== '/upgrade') return new Response('there is POST /upgrade\n', { status: 404 });
      if (upgrading) return new Response('an upgrade is under way\n', { status: 409 });
      upgrading = true;
      let gone = false;
      const lines = new ReadableStream<Uint8Array>({
        start: (controller) => {
          // It goes on when whoever asked has gone: half an upgrade is worse.
          const tell = (told: Told): void => void (gone || controller.enqueue(new TextEncoder().encode(`${JSON.stringify(told)}\n`)));
          void renewAll(supervisor, daemons.map(({ name }) => name), tell).finally(() => {
            upgrading = false;
            if (!gone) controller.close();
          });
        },
        cancel: () => void (gone = true),
      });
      return new Response(lines);
    },
  });
  return { stop: () => void server.stop(true) };
}

/** In the order of their start, each when the one before is healthy; the first that is not ends it, so that a broken version stops one daemon only. */
async function renewAll(supervisor: Pick<Supervisor, 'renew'>, names: readonly string[], tell: (told: Told) => void): Promise<void> {
  for (const [index, name] of names.entries()) {
    const fromMs = performance.now();
    try {
      await supervisor.renew(name, graceMs);
    } catch (thrown) {
      return tell({ failed: name, why: messageOf(thrown), left: names.slice(index + 1) });
    }
    tell({ renewed: name, tookMs: performance.now() - fromMs });
  }
  tell({ done: names.length });
}

/** `world.ts upgrade`: asks the world for it and prints how it goes. Rejects with a Failure when it is not done. */
export async function upgradeWorld(wanted: string | null, print: (line: string) => void): Promise<void> {
  const up = journalledWorlds().filter((id) => supervisorIsAlive(readJournal(id)));
  const [id, ...more] = wanted === null ? up : [wanted];
  if (id === undefined || !up.includes(id)) throw new Failure('no-world', wanted === null ? 'No world is up.' : `World ${wanted} is not up.`);
  if (more.length > 0) throw new Failure('which-world', `Several worlds are up: ${up.join(', ')}.`, { remedy: 'Say which by --world ID.' });
  let last: Told | null = null;
  try {
    const answer = await fetch('http://world/upgrade', { method: 'POST', unix: socketOf(id), timeout: false } as RequestInit);
    if (!answer.ok || answer.body === null) throw new Failure('not-upgraded', (await answer.text()).trim());
    let rest = '';
    for await (const piece of answer.body.pipeThrough(new TextDecoderStream()) as unknown as AsyncIterable<string>) {
      const lines = (rest + piece).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        last = JSON.parse(line) as Told;
        if ('renewed' in last) print(`${last.renewed} is another process after ${formatMs(last.tookMs)}`);
      }
    }
  } catch (thrown) {
    throw thrown instanceof Failure ? thrown : new Failure('world-away', `World ${id} does not answer: ${messageOf(thrown)} (${codeOf(thrown)}).`, { cause: thrown });
  }
  if (last === null || 'renewed' in last) throw new Failure('world-away', `World ${id} ended in the middle of the upgrade.`);
  if ('done' in last) return print(`World ${id}: all ${last.done} daemons run what lies in this clone.`);
  throw new Failure('not-upgraded', `The upgrade stopped at ${last.failed}: ${last.why}`, {
    remedy: `Put right what it says, or the former version back, and upgrade again. Not touched: ${last.left.join(', ') || 'none'}.`,
  });
}
