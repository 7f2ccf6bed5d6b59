import { closeSync, constants, existsSync, fstatSync, fsyncSync, mkdirSync, openSync, readSync, renameSync, rmSync, statfsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { assertInvariant, Failure } from '../kit/errors.ts';
import { namePattern, ownerKey } from '../kit/ids.ts';
import { formatBytes, nsPerMs } from '../kit/units.ts';
import type { Clock } from '../kit/clock.ts';
import { pieceBytesMax } from './model/exchange.ts';
import { dataPaths } from './model/paths.ts';
import { newestOf } from './model/volume-plan.ts';
import type { VolumeCalls, VolumeCopied, VolumeName } from './model/volumes.ts';
import { locked, VolumeImages } from './snapd/copy-volume.ts';
import { admitVolume } from './templates/volume-admit.ts';
import { changedCatalogue, readCatalogue, type VolumePorts } from './templates/volume-catalogue.ts';
import { readIndexFile, sealVolume } from './templates/volume-seal.ts';

/** Of the disk stays free behind a copy. */
const spareShare = 0.05;
const goneMsMax = 5000;
const goneLookMs = 50;

/**
 * Composes what snapd does about volumes. Orders come from a process of fewer rights: paths are made here, of names that are looked at, and what is
 * read from its files is believed in nothing.
 */
export function openVolumeStore(options: { readonly ports: VolumePorts; readonly dataFolder: string; readonly runFolder: string; readonly clock: Clock }): VolumeCalls {
  const { ports, dataFolder, clock } = options;
  const paths = dataPaths(dataFolder);
  const images = new VolumeImages(join(options.runFolder, 'volume-mounts'), clock);
  const copies = join(dataFolder, 'volume-copies');
  const sinceMs = (fromNs: number): number => (clock.bootNs() - fromNs) / nsPerMs;
  /** What a life before has left is of no use; nothing is done before that is gone. */
  const ready = images.recover().then(() => rmSync(copies, { recursive: true, force: true }));

  function checked({ owner, volume }: VolumeName): string {
    for (const name of [owner.provider, owner.scope, owner.app, volume]) assertInvariant(namePattern.test(name), `${JSON.stringify(name)} is a name`);
    return `${ownerKey(owner)}.${volume}`;
  }
  const folderOf = (about: VolumeName): string => join(copies, checked(about));
  const imageOf = (about: VolumeName): string => {
    checked(about);
    return paths.volume(about.owner, about.volume);
  };
  function newFolder(about: VolumeName): string {
    const folder = folderOf(about);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  }
  async function whole<T>(about: VolumeName, work: (folder: string) => Promise<T>): Promise<T> {
    await ready;
    const folder = newFolder(about);
    try {
      return await work(folder);
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }
  /** Before anything is written: a full disk would be everybody's. */
  function checkRoom(bytes: number): void {
    const { bavail, blocks, bsize } = statfsSync(dataFolder);
    if (bavail * bsize - bytes < blocks * bsize * spareShare) throw new Failure('disk-full', `the disk of the edgepoint has no room for ${formatBytes(bytes)} more`, { remedy: 'Try again later, or tell the operator.' });
  }

  return {
    volumeUse: async ({ owner, volumes }) => {
      await ready;
      return Promise.all(
        volumes.map(async ({ volume, sizeBytes }) => {
          const space = await images.use(imageOf({ owner, volume }));
          if (space === null) return { volume, sizeBytes, usedBytes: null, freeBytes: null };
          return { volume, sizeBytes: space.sizeBytes, usedBytes: space.sizeBytes - space.freeBytes, freeBytes: space.freeBytes };
        }),
      );
    },
    copyVolume: (order) =>
      whole(order, async (folder): Promise<VolumeCopied> => {
        const image = imageOf(order);
        if (!existsSync(image)) throw new Failure('volume-missing', `nothing has been written to the volume ${order.volume} yet`);
        const catalogue = readCatalogue(order.catalogue, order, ports.site, ports);
        const newest = newestOf(catalogue);
        const before = newest === null ? null : readIndexFile(order.indexFile, order, newest);
        // The copy, and as much again sealed when nothing of it is known.
        checkRoom(statSync(image).blocks * 512 * 2);
        const { frozenMs, copyMs } = await images.copy(image, join(folder, 'image'));
        const fromNs = clock.bootNs();
        const sealed = await sealVolume(folder, { ...order, catalogue, before }, ports);
        rmSync(join(folder, 'image'));
        return { ...sealed, frozenMs, copyMs, sealMs: sinceMs(fromNs) };
      }),
    readVolumeCopy: async (order) => ({ base64: readPiece(join(folderOf(order), order.part === 'index' ? 'index' : 'chunks'), order.from, Math.min(order.bytes, pieceBytesMax)) }),
    discardVolumeCopy: async (order) => {
      await ready;
      rmSync(folderOf(order), { recursive: true, force: true });
    },
    changeCatalogue: async (order) => {
      checked(order);
      return { text: changedCatalogue(order.catalogue, order, order.change, ports) };
    },
    admitVolume: (order) =>
      whole(order, async (folder) => {
        const fromNs = clock.bootNs();
        checkRoom(statSync(order.chunksFile).size * 2);
        await admitVolume(order, join(folder, 'image'), ports);
        return { tookMs: sinceMs(fromNs) };
      }),
    swapVolume: async (order) => {
      await ready;
      const image = imageOf(order);
      const swap = (): void => {
        mkdirSync(dirname(image), { recursive: true });
        renameSync(join(folderOf(order), 'image'), image);
        const folder = openSync(dirname(image), 'r');
        fsyncSync(folder);
        closeSync(folder);
      };
      if (!existsSync(image)) return swap();
      await locked(image, async () => {
        // The device of an instance that has ended goes a moment after it.
        for (let waitedMs = 0; waitedMs < goneMsMax && (await images.inUse(image)); waitedMs += goneLookMs) await new Promise((resolve) => setTimeout(resolve, goneLookMs));
        if (await images.inUse(image)) throw new Failure('volume-busy', 'an instance has the volume', { remedy: 'Try again in a moment.' });
        swap();
      });
    },
  };
}

function readPiece(path: string, from: number, bytes: number): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    assertInvariant(fstatSync(fd).isFile(), `${path} is a file`);
    const piece = Buffer.allocUnsafe(bytes);
    return piece.subarray(0, readSync(fd, piece, 0, bytes, from)).toString('base64');
  } finally {
    closeSync(fd);
  }
}
