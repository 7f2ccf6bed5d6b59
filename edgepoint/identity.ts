import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { readSettings } from '../host/config.ts';
import { requireRoot } from './box/root.ts';
import { openKeyRing } from './templates/keys.ts';
import { identityOf } from './templates/trusted.ts';

const settingsSchema = z.object({
  zone: z.string().describe('the zone of this edgepoint'),
  edgepoint: z.string().describe('the name of this edgepoint'),
  dataFolder: z.string().describe('as in the settings of snapd'),
  keyFolder: z.string().default('').describe('keys of snapshots; empty for `keys` in the data folder'),
});

/** `edgepoint identity`: what the operator writes into the `trustedFile` of other edgepoints. Makes the keys when there are none. */
export async function runIdentity(argv: readonly string[]): Promise<void> {
  const about = 'says the public keys by which other edgepoints know this one';
  const { zone, edgepoint, dataFolder, keyFolder } = await readSettings({ name: 'edgepoint identity', about, prefix: 'EDGEPOINT', schema: settingsSchema }, argv, process.env);
  requireRoot('edgepoint identity');
  writeSync(1, `${JSON.stringify(identityOf({ zone, edgepoint }, openKeyRing(keyFolder === '' ? join(dataFolder, 'keys') : keyFolder)))}\n`);
}
