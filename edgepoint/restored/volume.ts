import { existsSync, mkdirSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { Failure } from '../../kit/errors.ts';
import type { VolumeOrder } from '../model/calls.ts';

/** By image path: two instances that start at once must not both make it. */
const making = new Map<string, Promise<void>>();

/** Makes the image of a volume when it is not there: a sparse ext4 of the ordered size, whole or not at all. */
export function prepareVolume(volume: VolumeOrder): Promise<void> {
  const under = making.get(volume.imagePath) ?? make(volume).finally(() => making.delete(volume.imagePath));
  making.set(volume.imagePath, under);
  return under;
}

async function make(volume: VolumeOrder): Promise<void> {
  if (existsSync(volume.imagePath)) return;
  mkdirSync(dirname(volume.imagePath), { recursive: true });
  const part = `${volume.imagePath}.part`;
  rmSync(part, { force: true });
  writeFileSync(part, '', { mode: 0o600 });
  truncateSync(part, volume.sizeBytes);
  const child = Bun.spawn(['mkfs.ext4', '-q', '-F', '-m', '0', '-E', 'root_owner=0:0,lazy_itable_init=1', part], { stdout: 'ignore', stderr: 'pipe' });
  const [status, err] = await Promise.all([child.exited, new Response(child.stderr).text()]);
  if (status !== 0) {
    rmSync(part, { force: true });
    throw new Failure('volume', `the volume ${volume.name} could not be made: ${err.trim()}`);
  }
  renameSync(part, volume.imagePath);
}
