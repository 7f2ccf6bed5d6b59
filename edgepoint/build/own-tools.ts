import { createHash } from 'node:crypto';
import { cp, mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { codeOf } from '../../kit/errors.ts';

const runner = join(import.meta.dirname, 'runner.cjs');

/**
 * A copy of the tools of builds, with the program of their box, that belongs to this user: an instance sees as its own root's what is the
 * head's. Made once; its name says what is in it. Copies of others are removed, for no build is under way when the first begins.
 */
export async function ownTools(from: string, folder: string): Promise<string> {
  const hash = createHash('sha256').update(await readFile(runner)).digest('hex').slice(0, 12);
  const place = join(folder, `${basename(from)}-${hash}`);
  try {
    await stat(place);
    return place;
  } catch (thrown) {
    if (codeOf(thrown) !== 'ENOENT') throw thrown;
  }
  const aside = `${place}.new`;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true, mode: 0o755 });
  await cp(from, aside, { recursive: true });
  await cp(runner, join(aside, 'runner.cjs'));
  await rename(aside, place);
  return place;
}
