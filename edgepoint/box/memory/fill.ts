import { closeSync, openSync, readFileSync } from 'node:fs';
import { fillPath } from '../folders.ts';
import { lockShared } from '../kernel.ts';

/**
 * How the memory of a lazily restored instance gets there, told by its fill file (pages-guard.c): who gives the memory holds it
 * locked. No file: the instance was booted or restored eagerly, or all its memory has been there for a while.
 */
export type Fill = { readonly kind: 'none' | 'under-way' | 'done' } | { readonly kind: 'failed'; readonly reason: string };

export function readFill(runFolder: string, instance: string): Fill {
  return readFillFile(fillPath(runFolder, instance));
}

export function readFillFile(path: string): Fill {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return { kind: 'none' };
    throw error;
  }
  try {
    /* Asked before the text is read, which is written before the lock goes. */
    const locked = !lockShared(file);
    const text = readFileSync(file, 'utf8').trim();
    if (text === 'done') return { kind: 'done' };
    return locked ? { kind: 'under-way' } : { kind: 'failed', reason: text || 'who gave it its memory was killed' };
  } finally {
    closeSync(file);
  }
}

const pollMs = 20;

/** Waits while the memory is on its way; what came of it. `pause` waits so many milliseconds. */
export async function fillSettled(runFolder: string, instance: string, pause: (ms: number) => Promise<unknown>): Promise<Fill> {
  for (;;) {
    const fill = readFill(runFolder, instance);
    if (fill.kind !== 'under-way') return fill;
    await pause(pollMs);
  }
}
