import type { Manages } from './manages.ts';
import { findInstance } from './state.ts';

/** What an instance was seen to do by itself, as the end of "it ..."; empty: nothing. It may go on with it for as long as its manifest lets it. */
export function noteWork(manager: Manages, instance: string, what: string): void {
  const found = findInstance(manager.state, instance);
  if (found === null) return;
  const { app, entry } = found;
  if (what === '' && entry.work === '') return;
  entry.work = what;
  if (what !== '') entry.workedBootNs = manager.ports.clock.bootNs();
  manager.touch(app);
}
