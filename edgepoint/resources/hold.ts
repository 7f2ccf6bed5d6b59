import { Failure } from '../../kit/errors.ts';
import { ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { nsPerMs } from '../../kit/units.ts';
import type { ResourceManager } from './run.ts';

/** What is under way may end within this time; then it is cut. */
const waitMs = 30_000;
const lookMs = 10;

/**
 * Works while no instance of an app is there and none starts: requests wait in the dispatcher. What it kept of its memory goes, for it would not
 * fit to what is done; so it begins anew afterwards. Whoever calls sees to it that nothing of the app is prepared meanwhile. Returns for how
 * long, in milliseconds.
 */
export async function holdApp(manager: ResourceManager, { owner, reason }: { owner: Owner; reason: string }, sleepMs: (ms: number) => Promise<void>, work: () => Promise<void>): Promise<number> {
  const { clock, records, snapd, paths } = manager.ports;
  const app = manager.state.apps.get(ownerKey(owner));
  const isThere = (): boolean => app !== undefined && manager.state.apps.get(app.key) === app;
  if (app === undefined) throw new Failure('app-unready', 'the app is not hosted here any more');
  const fromBootNs = clock.bootNs();
  app.held = reason;
  manager.touch(app);
  try {
    while (app.instances.size > 0 && clock.bootNs() < fromBootNs + waitMs * nsPerMs) await sleepMs(lookMs);
    await Promise.all([...app.instances.values()].map((entry) => manager.keeper.end(entry)));
    const { kept } = app;
    if (kept !== null) {
      app.kept = null;
      await records.forgetKept(owner);
      await snapd.discard({ snapshotPath: paths.keptOf(kept.instance) });
    }
    // What is done would be done to what is removed.
    if (!isThere()) throw new Failure('app-unready', 'the app is not hosted here any more');
    await work();
  } finally {
    app.held = '';
    manager.touch(app);
  }
  return (clock.bootNs() - fromBootNs) / nsPerMs;
}
