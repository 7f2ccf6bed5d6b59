import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { tools } from '../host/tools.ts';
import { zstd } from '../host/zstd.ts';
import type { Site } from '../kit/ids.ts';
import { fileCalls } from './box/file-calls.ts';
import { openBaseRootName, readMachine } from './box/machine.ts';
import { prepareTemplateMemory } from './box/memory/template-memory.ts';
import { cpuFeaturesOf, cpuVendorOf, type Fingerprint } from './templates/fingerprint.ts';
import { openKeyRing } from './templates/keys.ts';
import type { SealPorts } from './templates/seal.ts';

/** The settings of the template store that snapd and restored share. */
export interface StoreSettings extends Site {
  readonly runFolder: string;
  readonly dataFolder: string;
  /** Empty: in the data folder. */
  readonly keyFolder: string;
  readonly criu: string;
  readonly boxProgram: string;
  readonly baseRoot: string;
}

/** What the template store's rooms stand on in a process of root. */
export interface StoreSurroundings {
  /** The memory where snapshots lie in plain text. */
  readonly folder: string;
  readonly ports: SealPorts;
  readonly here: () => Fingerprint;
  readonly baseRootName: () => string;
}

/** Composes them, for snapd and for restored alike. */
export function openStoreSurroundings(settings: StoreSettings): StoreSurroundings {
  const { zone, edgepoint } = settings;
  const { cpuinfo, ...machine } = readMachine(settings);
  const fixed = { ...machine, cpuFeatures: cpuFeaturesOf(cpuinfo), cpuVendor: cpuVendorOf(cpuinfo) };
  const baseRoot = openBaseRootName(settings.baseRoot);
  return {
    folder: prepareTemplateMemory(settings.runFolder),
    ports: {
      site: { zone, edgepoint },
      keys: openKeyRing(settings.keyFolder === '' ? join(settings.dataFolder, 'keys') : settings.keyFolder),
      codec: zstd,
      calls: fileCalls,
      randomBytes,
    },
    here: () => ({ ...fixed, baseRoot: baseRoot.read(), guard: guardName(settings.baseRoot) }),
    baseRootName: () => baseRoot.read(),
  };
}

/** Compilers differ from machine to machine, and processes have the compiled one mapped: its content counts, not its sources. */
function guardName(baseRoot: string): string | undefined {
  const path = join(baseRoot, tools.guard, 'clone-guard.so');
  return existsSync(path) ? createHash('sha256').update(readFileSync(path)).digest('hex') : undefined;
}
