import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { snapshotParts } from '../folders.ts';

/** How much memory a restore of an unpacked snapshot fills from its images: CRIU's images of pages. */
export function memoryBytes(unpackedFolder: string): number {
  const { images } = snapshotParts(unpackedFolder);
  return readdirSync(images).reduce((sum, name) => (name.startsWith('pages-') ? sum + statSync(join(images, name)).size : sum), 0);
}
