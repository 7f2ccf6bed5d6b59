import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure, codeOf } from '../../kit/errors.ts';
import { formatBytes } from '../../kit/units.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import { loginAnswerSchema } from '../api/answers.ts';
import { manifestFailure, manifestFile, readManifest } from '../manifest/read.ts';
import { lookInto } from './build.ts';
import type { Client, Upload } from './client.ts';
import { packFolder } from './pack.ts';
import type { PackedFolder } from './pack.ts';
import { recogniseBuild } from './recognise.ts';
import type { Recognised } from './recognise.ts';
import type { Terminal } from './terminal.ts';

/** Checks the manifest, packs the folder and hands it to `send`, which is told whether it is to be built. */
export async function sendFolder<T>(folder: string, client: () => Promise<Client>, terminal: Terminal, send: (conduit: Client, app: string, upload: Upload, recognised: Recognised | null) => Promise<T>): Promise<T> {
  const manifest = await checkManifest(folder);
  const { app } = manifest;
  const recognised = await recogniseBuild(manifest, lookInto(folder));
  const conduit = await client();
  // Asked first, so that a wrong token or a folder too big is known before anything is sent.
  const { uploadBytesMax } = await conduit.send('POST', '/login', loginAnswerSchema);
  const packed = await packFolder(folder, (files, bytes) => terminal.progress(`packing: ${files} files, ${formatBytes(bytes)}`), recognised?.without);
  try {
    terminal.say(`${terminal.paint('bold', app)}: ${packed.files} files, ${formatBytes(packed.unpackedBytes)}, packed ${formatBytes(packed.bytes)}`);
    if (packed.bytes > uploadBytesMax) {
      throw new Failure('upload-too-big', `packed, the folder has ${formatBytes(packed.bytes)}; this conduit takes ${formatBytes(uploadBytesMax)}`, {
        remedy: 'Name what the app does not need in .edgepointignore; put data into a volume.',
      });
    }
    if (recognised !== null) terminal.say(`a source folder, to be built by the platform (${recognised.reason})`);
    return await send(conduit, app, {
      stream: countedFile(packed, terminal),
      headers: { 'content-type': 'application/gzip', 'x-artefact-digest': packed.digest },
    }, recognised);
  } finally {
    terminal.progress('');
    packed.dispose();
  }
}

/** The manifest of a folder; a Failure names file and line of every mistake in it. */
export async function checkManifest(folder: string): Promise<Manifest> {
  let text: string;
  try {
    text = await readFile(join(folder, manifestFile), 'utf8');
  } catch (thrown) {
    if (!['ENOENT', 'ENOTDIR'].includes(codeOf(thrown))) throw thrown;
    throw new Failure('manifest-missing', `there is no ${manifestFile} in ${folder}`, { remedy: '`conduit init` writes one.', cause: thrown });
  }
  const read = readManifest(text);
  if (!read.ok) throw manifestFailure(read.problems);
  return read.manifest;
}

async function* countedFile(packed: PackedFolder, terminal: Terminal): AsyncGenerator<Uint8Array> {
  let sent = 0;
  for await (const chunk of packed.read()) {
    yield chunk;
    sent += chunk.length;
    terminal.progress(`uploading: ${formatBytes(sent)} of ${formatBytes(packed.bytes)} (${Math.floor((sent / packed.bytes) * 100)} %)`);
  }
}
