import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { snapshotParts } from './folders.ts';

/** How long each image of a snapshot is: CRIU does not fail but hangs when the memory it restores has been cut short. */
type ImageSizes = Readonly<Record<string, number>>;

const sizesPath = (snapshotPath: string): string => join(snapshotPath, 'image-sizes.json');

export function writeImageSizes(snapshotPath: string): void {
  const { images } = snapshotParts(snapshotPath);
  const sizes: ImageSizes = Object.fromEntries(readdirSync(images).map((name) => [name, statSync(join(images, name)).size]));
  writeFileSync(sizesPath(snapshotPath), JSON.stringify(sizes));
}

/** What is wrong with a snapshot's images, in words, or null when every one is there and as long as it was. */
export function imageDamage(snapshotPath: string): string | null {
  const { images } = snapshotParts(snapshotPath);
  for (const [name, bytes] of Object.entries(readSizes(snapshotPath))) {
    const found = statSync(join(images, name), { throwIfNoEntry: false })?.size;
    if (found !== bytes) return `its image ${name} ${found === undefined ? 'is missing' : `has ${found} of ${bytes} bytes`}`;
  }
  return null;
}

/** How much memory a restore of the snapshot fills from its images: CRIU's images of pages; 0 when nothing is known. */
export function memoryBytes(snapshotPath: string): number {
  return Object.entries(readSizes(snapshotPath)).reduce((sum, [name, bytes]) => (name.startsWith('pages-') ? sum + bytes : sum), 0);
}

/** Snapshots of earlier versions have no such list: they are tried as they are. */
function readSizes(snapshotPath: string): ImageSizes {
  try {
    return JSON.parse(readFileSync(sizesPath(snapshotPath), 'utf8')) as ImageSizes;
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return {};
    throw error;
  }
}
