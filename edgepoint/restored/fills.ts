import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fillPath } from '../box/folders.ts';
import { type Fill, fillSettled } from '../box/memory/fill.ts';

/**
 * Follows the memory of a lazily restored instance until it is there, and then takes its fill file away; whoever adopts the instance
 * after a kill -9 follows it again. When it failed the memory will never be there, and the instance must not run on.
 */
export async function followFill(runFolder: string, instance: string): Promise<Fill> {
  const fill = await fillSettled(runFolder, instance, sleep);
  if (fill.kind === 'done') rmSync(fillPath(runFolder, instance), { force: true });
  return fill;
}
