import { existsSync, renameSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Failure } from '../../kit/errors.ts';
import { nsPerMs } from '../../kit/units.ts';
import type { Clock } from '../../kit/clock.ts';
import { imageFirstUid } from '../model/calls.ts';
import type { ImageCalls } from '../model/calls.ts';

/** Longer than what unpacks may compute (unpack.c), for the disk may be slow. */
const unpackTimeoutMs = 900_000;
const wordsMax = 2000;

/**
 * Unpacks images by umoci, which edgepoint-box keeps away from everything but the folder it fills. The head has judged and verified every layer
 * before; umoci verifies them again.
 */
export function openImageUnpacker(options: { readonly boxProgram: string; readonly clock: Clock }): ImageCalls {
  /** By folder: an order that is repeated waits for the first one's result. */
  const working = new Map<string, Promise<{ tookMs: number }>>();
  const unpack = async ({ layoutPath, folder }: { layoutPath: string; folder: string }): Promise<{ tookMs: number }> => {
    const fromNs = options.clock.bootNs();
    const aside = `${folder}.part`;
    if (!existsSync(folder)) {
      rmSync(aside, { recursive: true, force: true });
      try {
        await run([options.boxProgram, 'unpack', aside, `${imageFirstUid}`, 'umoci', 'raw', 'unpack', '--image', `${layoutPath}:image`, join(aside, 'root')]);
        renameSync(aside, folder);
      } catch (thrown) {
        rmSync(aside, { recursive: true, force: true });
        throw thrown;
      }
    }
    return { tookMs: (options.clock.bootNs() - fromNs) / nsPerMs };
  };
  return {
    unpackImage(order) {
      const under = working.get(order.folder);
      if (under !== undefined) return under;
      const work = unpack(order).finally(() => working.delete(order.folder));
      working.set(order.folder, work);
      return work;
    },
    async removeImage({ folder }) {
      await working.get(folder)?.catch(() => undefined);
      for (const path of [`${folder}.part`, folder]) await rm(path, { recursive: true, force: true });
    },
  };
}

async function run(argv: readonly string[]): Promise<void> {
  const child = Bun.spawn([...argv], { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe', timeout: unpackTimeoutMs, killSignal: 'SIGKILL' });
  const said = (await new Response(child.stderr).text()).slice(-wordsMax).trim();
  const status = await child.exited;
  if (status === 0) return;
  const why = said === '' ? `${basename(argv[0] ?? '')} ended with ${status}` : said;
  throw new Failure('image-unpack-failed', `the image could not be unpacked: ${why}`, { remedy: 'If the image runs elsewhere, tell the operator what this says.' });
}
