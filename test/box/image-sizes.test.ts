import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { imageDamage, memoryBytes, writeImageSizes } from '../../edgepoint/box/image-sizes.ts';

t.test('a snapshot whose images were cut or lost is known before a restore of it would hang', async (t) => {
  const snapshot = t.testdir({ images: { 'core-1.img': 'core', 'pages-1.img': 'a'.repeat(4096) } });
  const pages = join(snapshot, 'images/pages-1.img');
  t.equal(imageDamage(snapshot), null, 'one without a list is tried as it is');
  t.equal(memoryBytes(snapshot), 0, 'nor does it say how much memory it holds');
  writeImageSizes(snapshot);
  t.equal(imageDamage(snapshot), null);
  t.equal(memoryBytes(snapshot), 4096, 'the images of pages, not those of cores');
  truncateSync(pages, 2048);
  t.equal(imageDamage(snapshot), 'its image pages-1.img has 2048 of 4096 bytes');
  rmSync(pages);
  t.equal(imageDamage(snapshot), 'its image pages-1.img is missing');
  writeFileSync(join(snapshot, 'image-sizes.json'), 'no list');
  t.throws(() => imageDamage(snapshot), /JSON/);
});
