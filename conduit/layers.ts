import { mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { readLayer } from '../host/layer.ts';
import { Failure, codeOf } from '../kit/errors.ts';
import { openLayerCount } from '../kit/image.ts';
import { formatBytes } from '../kit/units.ts';
import { newId } from '../kit/ids.ts';
import type { RandomBytes } from '../kit/ids.ts';
import { openPlaces } from './places.ts';
import type { Uploads } from './uploads.ts';

/** One that no release needs stays so long after it was sent or asked for, for the deploy that wants it comes after it. */
const unneededMs = 3_600_000;
const placeWaitMs = 10_000;

export interface LayerPorts {
  readonly uploads: Uploads;
  readonly folder: string;
  readonly bytesPerProvider: number;
  readonly uploadsMax: number;
  readonly randomBytes: RandomBytes;
  /** `<provider>/<digest>` of each layer that a kept release needs. */
  needed(): Promise<ReadonlySet<string>>;
  wallMs(): number;
}

/** Layers of providers' images on the conduit's disk, packed, each under the digest of its tar; no provider sees or uses another's. */
export interface Layers {
  path(provider: string, digest: string): string;
  /** Failure `layer-unknown` when the provider has not sent it. One that is asked for stays for a while. */
  find(provider: string, digest: string): Promise<{ readonly digest: string; readonly bytes: number }>;
  /** Receives, judges and keeps one; on any Failure nothing is left. Repeatable. */
  receive(provider: string, digest: string, body: AsyncIterable<Uint8Array>, bytes: number | null): Promise<{ readonly digest: string; readonly bytes: number }>;
  /** Failure `layer-missing` unless all are there; they stay for a while. */
  require(provider: string, digests: readonly string[]): Promise<void>;
  /** Removes what no release needs and nobody has asked for lately. */
  sweep(): Promise<void>;
}

export async function openLayers(ports: LayerPorts): Promise<Layers> {
  const { uploads, folder } = ports;
  const places = openPlaces(ports.uploadsMax);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = (provider: string, digest: string): string => join(folder, provider, `${digest.replace('sha256:', '')}.tar.gz`);

  const find = async (provider: string, digest: string): Promise<{ digest: string; bytes: number }> => {
    try {
      const now = new Date(ports.wallMs());
      await utimes(path(provider, digest), now, now);
      return { digest, bytes: (await stat(path(provider, digest))).size };
    } catch (thrown) {
      if (codeOf(thrown) !== 'ENOENT') throw thrown;
      throw new Failure('layer-unknown', `you have sent no layer ${digest}`, { remedy: '`conduit deploy --image` sends it.' });
    }
  };
  const judgeRoom = async (provider: string): Promise<void> => {
    const sizes = (await filesOf(join(folder, provider))).map(({ bytes }) => bytes);
    const held = sizes.reduce((sum, bytes) => sum + bytes, 0);
    if (held < ports.bytesPerProvider) return;
    throw new Failure('layers-full', `your images’ layers have ${formatBytes(held)}; this conduit keeps ${formatBytes(ports.bytesPerProvider)} for each provider`, {
      remedy: 'Delete an app that is not needed; what no release needs goes within an hour.',
    });
  };
  return {
    path,
    find,
    async receive(provider, digest, body, bytes) {
      await judgeRoom(provider);
      if (!(await places.take(placeWaitMs))) throw new Failure('busy', `${ports.uploadsMax} layers are on their way already`, { remedy: 'Try again in a few seconds.' });
      try {
        const { upload, judged: read } = await uploads.receive(newId('up', ports.randomBytes), body, { bytes, digest: null }, (source) => readLayer(source, openLayerCount()));
        try {
          if (read.digest !== digest) throw new Failure('layer-damaged', `what was sent as layer ${digest} is ${read.digest}`, { remedy: 'Save or pull the image again.' });
          await mkdir(join(folder, provider), { recursive: true, mode: 0o700 });
          await rename(upload.path, path(provider, digest));
          return { digest, bytes: upload.bytes };
        } finally {
          await uploads.discard(upload);
        }
      } finally {
        places.free();
      }
    },
    async require(provider, digests) {
      for (const digest of digests) {
        await find(provider, digest).catch((thrown: unknown) => {
          if (codeOf(thrown) !== 'layer-unknown') throw thrown;
          throw new Failure('layer-missing', `layer ${digest} of the image has not been sent`, { remedy: 'Deploy again.', cause: thrown });
        });
      }
    },
    async sweep() {
      const needed = await ports.needed();
      const oldestMs = ports.wallMs() - unneededMs;
      for (const provider of await readdir(folder)) {
        for (const { name, usedMs } of await filesOf(join(folder, provider))) {
          if (needed.has(`${provider}/sha256:${name.replace('.tar.gz', '')}`) || usedMs > oldestMs) continue;
          await rm(join(folder, provider, name), { force: true });
        }
      }
    },
  };
}

/** None where there is no folder; what goes meanwhile is left out. */
async function filesOf(folder: string): Promise<{ readonly name: string; readonly bytes: number; readonly usedMs: number }[]> {
  const gone = (thrown: unknown): null => {
    if (codeOf(thrown) !== 'ENOENT') throw thrown;
    return null;
  };
  const names = (await readdir(folder).catch(gone)) ?? [];
  const found = await Promise.all(names.map(async (name) => ({ name, status: await stat(join(folder, name)).catch(gone) })));
  return found.flatMap(({ name, status }) => (status === null ? [] : [{ name, bytes: status.size, usedMs: status.mtimeMs }]));
}
