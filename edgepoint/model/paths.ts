import { ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';

/** Where things lie in an edgepoint's data folder. Owners, digests and ids are of a checked form, so no path can leave it. */
export interface DataPaths {
  readonly downloads: string;
  /** The folder whose `app` is the unpacked artefact. */
  artefact(digest: string): string;
  template(owner: Owner, release: number): string;
  templatesOf(owner: Owner): string;
  kept(instance: string, sequence: number): string;
  keptOf(instance: string): string;
  volume(owner: Owner, name: string): string;
  volumesOf(owner: Owner): string;
}

/** Everything of a check lies in a folder of its own, so that removing that folder leaves nothing. */
export function checkPaths(folder: string): DataPaths {
  const nowhere = (): never => {
    throw new Error('broken invariant: a check keeps no state');
  };
  return {
    downloads: `${folder}/download`,
    artefact: () => `${folder}/artefact`,
    template: () => `${folder}/template`,
    templatesOf: () => `${folder}/template`,
    kept: nowhere,
    keptOf: nowhere,
    volume: (_owner, name) => `${folder}/volumes/${name}.ext4`,
    volumesOf: () => `${folder}/volumes`,
  };
}

/** Where checks have their folders. */
export const checksFolder = (dataFolder: string): string => `${dataFolder}/checks`;

export function dataPaths(dataFolder: string): DataPaths {
  const templatesOf = (owner: Owner): string => `${dataFolder}/snapshots/${ownerKey(owner)}`;
  const volumesOf = (owner: Owner): string => `${dataFolder}/volumes/${ownerKey(owner)}`;
  const keptOf = (instance: string): string => `${dataFolder}/kept/${instance}`;
  return {
    downloads: `${dataFolder}/downloads`,
    artefact: (digest) => `${dataFolder}/artefacts/${digest.replace(/^sha256:/, '')}`,
    template: (owner, release) => `${templatesOf(owner)}/${release}`,
    templatesOf,
    kept: (instance, sequence) => `${keptOf(instance)}/${sequence}`,
    keptOf,
    volume: (owner, name) => `${volumesOf(owner)}/${name}.ext4`,
    volumesOf,
  };
}
