import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Engine } from './engine.ts';

/** Compiles the tiny C server; the folder it lies in. */
export function compileTiny(engine: Engine): string {
  const folder = join(engine.dataFolder, 'tiny-source');
  mkdirSync(folder);
  const done = Bun.spawnSync(['gcc', '-O2', '-static', '-o', join(folder, 'tiny-server'), join(import.meta.dir, 'tiny-server.c')]);
  if (done.exitCode !== 0) throw new Error(done.stderr.toString());
  return folder;
}
