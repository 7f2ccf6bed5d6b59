import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createGzip, gzipSync } from 'node:zlib';
import { Header } from 'tar';
import { Failure, codeOf } from '../../../kit/errors.ts';
import { formatBytes } from '../../../kit/units.ts';
import { deployAnswerSchema, layerAnswerSchema } from '../../api/answers.ts';
import { manifestFile } from '../../manifest/read.ts';
import type { Client } from '../client.ts';
import { follow } from '../deploy.ts';
import type { Terminal } from '../terminal.ts';
import { openArchive } from './archive.ts';
import type { ImageSource, SourceLayer } from './archive.ts';
import { manifestOfImage } from './manifest.ts';
import { openRegistryImage } from './registry.ts';

const registrySeconds = 60;

export interface ImageOptions {
  readonly image: string;
  readonly name?: string;
  readonly port?: number;
  readonly watch: boolean;
  readonly canary?: number;
  /** Seconds that a registry may say nothing. */
  readonly registryTimeout?: number;
}

/** Deploys an image: sends the layers that the conduit does not have, then a manifest that names them. `folder` may hold an edgepoint.toml. */
export async function deployImage(folder: string, options: ImageOptions, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  const source = await openImage(options);
  try {
    const manifestText = await ownManifest(folder);
    const { text, manifest, notes } = manifestOfImage({ ...options, manifestText, config: source.config, imageName: source.name });
    const conduit = await client();
    terminal.say(`${terminal.paint('bold', manifest.app)}: ${source.layers.length} layers, ${formatBytes(source.layers.reduce((sum, { bytes }) => sum + bytes, 0))}; runs ${manifest.command.join(' ')}, port ${manifest.port}`);
    for (const note of notes) terminal.say(terminal.paint('yellow', note));
    await sendLayers(source.layers, conduit, terminal);
    const archive = archiveOf(text);
    const digest = `sha256:${createHash('sha256').update(archive).digest('hex')}`;
    const way = `/apps/${manifest.app}/releases${options.canary === undefined ? '' : `?canary=${options.canary}`}`;
    const headers = { 'content-type': 'application/gzip', 'x-artefact-digest': digest };
    await follow(await conduit.send('POST', way, deployAnswerSchema, { stream: Readable.from([archive]), headers }), options, conduit, terminal);
  } finally {
    terminal.progress('');
    await source.close();
  }
}

/** What is here is not looked for in a registry. */
async function openImage({ image, registryTimeout = registrySeconds }: ImageOptions): Promise<ImageSource> {
  if (existsSync(image)) return openArchive(image);
  if (/^[./~]/.test(image)) throw new Failure('image-unknown', `there is no ${image} here`, { remedy: 'Name what `docker save` or `podman save` wrote, or the folder of an OCI layout.' });
  return openRegistryImage(image, { stallMs: registryTimeout * 1000, env: process.env });
}

/** Each layer once, and those that are there already not at all: a deploy that broke off goes on where it was. */
async function sendLayers(layers: readonly SourceLayer[], conduit: Client, terminal: Terminal): Promise<void> {
  const wanted = [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
  let sent = 0;
  for (const [index, layer] of wanted.entries()) {
    if (await isThere(layer.digest, conduit)) continue;
    await sendLayer(layer, conduit, (bytes) => terminal.progress(`layer ${index + 1} of ${wanted.length}: ${formatBytes(bytes)} of ${formatBytes(layer.bytes)}`));
    sent += 1;
  }
  terminal.progress('');
  terminal.say(sent === 0 ? 'The conduit has all layers already.' : `${sent} of ${wanted.length} layers were sent; the conduit had the others.`);
}

async function isThere(digest: string, conduit: Client): Promise<boolean> {
  try {
    await conduit.get(`/layers/${digest}`, layerAnswerSchema);
    return true;
  } catch (thrown) {
    if (codeOf(thrown) !== 'layer-unknown') throw thrown;
    return false;
  }
}

async function sendLayer(layer: SourceLayer, conduit: Client, onSent: (bytes: number) => void): Promise<void> {
  // A source that fails breaks the upload, which then says that the conduit was lost.
  let failure: unknown = null;
  async function* watched(): AsyncGenerator<Uint8Array> {
    let bytes = 0;
    try {
      for await (const part of layer.open()) {
        yield part;
        bytes += part.length;
        onSent(bytes);
      }
    } catch (thrown) {
      failure = thrown;
      throw thrown;
    }
  }
  try {
    await conduit.send('POST', `/layers/${layer.digest}`, layerAnswerSchema, { stream: await packed(watched()), headers: { 'content-type': 'application/gzip' } });
  } catch (thrown) {
    throw failure ?? thrown;
  }
}

/** As the conduit takes it: what is not packed is packed on its way (layer.md, "application/vnd.oci.image.layer.v1.tar"). */
async function packed(source: AsyncGenerator<Uint8Array>): Promise<AsyncIterable<Uint8Array>> {
  const first = await source.next();
  const head = first.done === true ? new Uint8Array() : first.value;
  async function* whole(): AsyncGenerator<Uint8Array> {
    yield head;
    yield* source;
  }
  if (head[0] === 0x1f && head[1] === 0x8b) return whole();
  if (Buffer.from(head.subarray(0, 4)).equals(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]))) {
    await source.return(undefined);
    throw new Failure('image-compression', 'a layer is compressed by zstd, which is not taken', { remedy: 'Save or push the image with layers compressed by gzip.' });
  }
  const gzip = createGzip({ level: 6 });
  const plain = Readable.from(whole());
  plain.once('error', (thrown) => gzip.destroy(thrown));
  return plain.pipe(gzip);
}

async function ownManifest(folder: string): Promise<string> {
  const path = join(folder, manifestFile);
  try {
    return (await stat(path)).isFile() ? await readFile(path, 'utf8') : '';
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') return '';
    throw thrown;
  }
}

/** The artefact of an image's release holds its manifest alone. The same text gives the same bytes. */
function archiveOf(text: string): Buffer {
  const bytes = Buffer.from(text);
  const header = Buffer.alloc(512);
  new Header({ path: manifestFile, type: 'File', size: bytes.length, mode: 0o644, mtime: new Date('2000-01-01T00:00:00Z'), uid: 0, gid: 0 }).encode(header);
  return gzipSync(Buffer.concat([header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512), Buffer.alloc(1024)]));
}
