import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../../kit/errors.ts';
import { openLayerCount } from '../../kit/image.ts';
import type { LayerCount } from '../../kit/image.ts';
import { formatBytes, formatMs, nsPerMs } from '../../kit/units.ts';
import { readLayer } from '../../host/layer.ts';
import { imageFolder, imageRoot } from '../model/calls.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { DeployPorts, ImagePorts } from './ports.ts';
import type { TellStage } from './prepare.ts';

/** A layer, packed; the conduit takes none that is longer. */
const layerBytesMax = 4 * 1024 ** 3;

/** Whether what the release runs on is unpacked, for one that brings an image. */
export async function isImageThere(order: ReleaseOrder, folder: string): Promise<boolean> {
  if (order.manifest.image === undefined) return true;
  try {
    return (await stat(imageRoot(folder))).isDirectory();
  } catch {
    return false;
  }
}

/** Fetches the layers of a release's image, verifies and judges them, and has snapd unpack them into the folder of its artefact. */
export async function bringImage(order: ReleaseOrder, ports: DeployPorts, tell: TellStage): Promise<void> {
  const { image } = order.manifest;
  if (image === undefined) return;
  if (ports.images === undefined) throw new Failure('image-not-here', 'an image cannot be brought here', { remedy: 'Deploy it rather than check it.' });
  const folder = ports.paths.artefact(order.artefactDigest);
  const layout = join(folder, 'layout');
  const fromBootNs = ports.clock.bootNs();
  const sinceMs = (): number => (ports.clock.bootNs() - fromBootNs) / nsPerMs;
  try {
    tell('fetch', `Fetches the image (${image.layers.length} layers).`);
    const bytes = await fetchLayout(layout, order, image.layers, ports.images);
    const fetchedMs = sinceMs();
    tell('fetch', `The image, ${formatBytes(bytes)}, was fetched in ${formatMs(fetchedMs)}, and its digests agree.`, { tookMs: fetchedMs, figures: { bytes } });
    const { tookMs } = await ports.images.unpackImage({ layoutPath: layout, folder: imageFolder(folder) });
    tell('unpack', `The image was unpacked in ${formatMs(tookMs)}.`, { tookMs });
  } finally {
    await rm(layout, { recursive: true, force: true });
  }
}

/** Takes away what is there of it, whole or not, before the folder of the artefact can be removed: its files belong to ids of their own. */
export async function removeImage({ manifest, artefactDigest }: ReleaseOrder, ports: DeployPorts): Promise<void> {
  if (manifest.image !== undefined) await ports.images?.removeImage({ folder: imageFolder(ports.paths.artefact(artefactDigest)) });
}

interface Blob {
  readonly digest: string;
  readonly size: number;
}

/** An OCI image layout with the one image `image` (image-layout.md). Gives the bytes of its layers, packed. */
async function fetchLayout(layout: string, order: ReleaseOrder, layers: readonly string[], ports: ImagePorts): Promise<number> {
  const blobs = join(layout, 'blobs/sha256');
  await rm(layout, { recursive: true, force: true });
  await mkdir(blobs, { recursive: true, mode: 0o755 });
  const count = openLayerCount();
  const fetched = new Map<string, Blob>();
  const described: Blob[] = [];
  for (const layer of layers) {
    // The same layer may stand in an image twice: it is fetched once, and counts once for each.
    const blob = fetched.get(layer) ?? (await fetchLayer(layer, blobs, { order, ports, count }));
    fetched.set(layer, blob);
    described.push(blob);
  }
  const config = await writeBlob(blobs, { architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: layers } });
  const manifest = await writeBlob(blobs, {
    schemaVersion: 2,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
    layers: described.map((blob) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', ...blob })),
  });
  const annotations = { 'org.opencontainers.image.ref.name': 'image' };
  const index = { schemaVersion: 2, manifests: [{ mediaType: 'application/vnd.oci.image.manifest.v1+json', ...manifest, annotations }] };
  await writeFile(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }), { mode: 0o644 });
  await writeFile(join(layout, 'index.json'), JSON.stringify(index), { mode: 0o644 });
  return [...fetched.values()].reduce((sum, { size }) => sum + size, 0);
}

async function fetchLayer(layer: string, blobs: string, about: { order: ReleaseOrder; ports: ImagePorts; count: LayerCount }): Promise<Blob> {
  const { order, ports, count } = about;
  const stream = await ports.openLayer(order.owner.provider, layer);
  if (stream === null) throw new Failure('layer-missing', `layer ${layer} is not in this edgepoint's object store`, { remedy: 'Deploy again.' });
  const file = join(blobs, 'layer');
  await writeLayer(file, stream, layer);
  const read = await readLayer(createReadStream(file, { highWaterMark: 1024 * 1024 }), count);
  if (read.digest !== layer) throw new Failure('layer-corrupt', `what came as layer ${layer} is ${read.digest}`, { remedy: 'Deploy again.' });
  await rename(file, join(blobs, read.packedDigest.replace('sha256:', '')));
  return { digest: read.packedDigest, size: read.packedBytes };
}

async function writeLayer(path: string, stream: ReadableStream<Uint8Array>, layer: string): Promise<void> {
  const file = await open(path, 'w', 0o644);
  let bytes = 0;
  try {
    for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) {
      bytes += chunk.byteLength;
      if (bytes > layerBytesMax) throw new Failure('layer-corrupt', `layer ${layer} is longer than ${layerBytesMax} bytes`);
      await file.write(chunk);
    }
  } finally {
    await file.close();
  }
}

async function writeBlob(blobs: string, value: unknown): Promise<Blob> {
  const text = JSON.stringify(value);
  const hex = createHash('sha256').update(text).digest('hex');
  await writeFile(join(blobs, hex), text, { mode: 0o644 });
  return { digest: `sha256:${hex}`, size: Buffer.byteLength(text) };
}
