import { createHash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { basename, join, posix } from 'node:path';
import { Header, Pax } from 'tar';
import { Failure, codeOf } from '../../../kit/errors.ts';
import { chooseManifest, documentBytesMax, judgeLayers, missingBlob, readConfig, readDocument, readSaved, unreadable } from './config.ts';
import type { Descriptor, ImageConfig } from './config.ts';

/** A layer where it is: `digest` is that of its tar, which whoever receives it verifies. */
export interface SourceLayer {
  readonly digest: string;
  /** As it is there, packed or not. */
  readonly bytes: number;
  open(): AsyncIterable<Uint8Array>;
}

export interface ImageSource {
  /** What it is called, without a tag; may be empty. */
  readonly name: string;
  readonly config: ImageConfig;
  readonly layers: readonly SourceLayer[];
  close(): Promise<void>;
}

/** Files by their paths: of a folder, or members of a tar. */
interface Members {
  /** Null when there is none. */
  find(path: string): Promise<{ bytes: number; read(): AsyncIterable<Uint8Array> } | null>;
  close(): Promise<void>;
}

const readBytes = 1024 * 1024;
const membersMax = 100_000;
const linksMax = 8;

/** An image that was saved: by docker, by podman, or as an OCI layout, which may also be a folder. Failures have the codes of config.ts. */
export async function openArchive(path: string): Promise<ImageSource> {
  const members = (await stat(path)).isDirectory() ? folderMembers(path) : await tarMembers(path);
  try {
    // Docker writes both since 25; its layout says more.
    const isLayout = (await members.find('index.json')) !== null;
    return isLayout ? await openLayout(members) : await openSaved(members);
  } catch (thrown) {
    await members.close();
    throw thrown;
  }
}

async function openLayout(members: Members): Promise<ImageSource> {
  const blobPath = ({ digest }: Descriptor): string => `blobs/${digest.replace(':', '/')}`;
  let document = readDocument(await textOf(members, 'index.json'));
  let name = '';
  for (let depth = 0; document.kind === 'index'; depth += 1) {
    if (depth > 3) throw unreadable('its indexes are nested too deeply');
    const chosen = chooseManifest(document.manifests);
    name = chosen.annotations?.['io.containerd.image.name'] ?? name;
    document = readDocument(await verifiedText(members, blobPath(chosen), chosen));
  }
  const { config: configAt, layers: layersAt } = document;
  const config = readConfig(await verifiedText(members, blobPath(configAt), configAt));
  return { name: withoutTag(name), ...(await sourceOf(members, config, layersAt.map(blobPath))) };
}

async function openSaved(members: Members): Promise<ImageSource> {
  if ((await members.find('manifest.json')) === null) throw unreadable('it holds neither index.json nor manifest.json');
  const saved = readSaved(await textOf(members, 'manifest.json'));
  const config = readConfig(await textOf(members, saved.Config));
  return { name: withoutTag(saved.RepoTags[0] ?? ''), ...(await sourceOf(members, config, saved.Layers)) };
}

async function sourceOf(members: Members, config: ImageConfig, paths: readonly string[]): Promise<Omit<ImageSource, 'name'>> {
  judgeLayers(config, paths.length);
  const layers: SourceLayer[] = [];
  for (const [index, path] of paths.entries()) {
    const member = await members.find(path);
    if (member === null) throw missingBlob(`layer ${index + 1} (${path})`);
    layers.push({ digest: config.rootfs.diff_ids[index] as string, bytes: member.bytes, open: () => member.read() });
  }
  return { config, layers, close: () => members.close() };
}

export const withoutTag = (name: string): string => name.replace(/@.*$/, '').replace(/:[^/:]*$/, '');

async function textOf(members: Members, path: string): Promise<string> {
  const member = await members.find(path);
  if (member === null) throw missingBlob(path);
  if (member.bytes > documentBytesMax) throw unreadable(`${path} is longer than ${documentBytesMax} bytes`);
  const parts: Uint8Array[] = [];
  for await (const part of member.read()) parts.push(part);
  return Buffer.concat(parts).toString('utf8');
}

async function verifiedText(members: Members, path: string, { digest }: Descriptor): Promise<string> {
  const text = await textOf(members, path);
  if (`sha256:${createHash('sha256').update(text).digest('hex')}` !== digest) throw damaged(path);
  return text;
}

export const damaged = (what: string): Failure => new Failure('image-damaged', `${what} is not what its digest says`, { remedy: 'Save or push the image again.' });

function folderMembers(folder: string): Members {
  return {
    async find(path) {
      // Names come from the image's own documents.
      if (posix.normalize(`/${path}`) !== `/${path}`) throw unreadable(`${JSON.stringify(path)} is no path in it`);
      try {
        const whole = join(folder, path);
        const found = await stat(whole);
        return found.isFile() ? { bytes: found.size, read: () => readOnce(whole, found.size) } : null;
      } catch (thrown) {
        if (codeOf(thrown) === 'ENOENT' || codeOf(thrown) === 'ENOTDIR') return null;
        throw thrown;
      }
    },
    close: () => Promise.resolve(),
  };
}

async function* readOnce(path: string, bytes: number): AsyncGenerator<Uint8Array> {
  const file = await open(path, 'r');
  try {
    yield* piecesOf(file, 0, bytes);
  } finally {
    await file.close();
  }
}

async function* piecesOf(file: FileHandle, from: number, bytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes; ) {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(Math.min(readBytes, bytes - at)), 0, Math.min(readBytes, bytes - at), from + at);
    if (bytesRead === 0) throw new Failure('image-unreadable', 'the image ends too early', { remedy: 'Save it again.' });
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

interface Member {
  readonly offset: number;
  readonly bytes: number;
  /** The member that this one is a link to. */
  readonly link: string | null;
}

/** Reads the headers alone (pax(1), "ustar Interchange Format"), for the members are read in an order of our own. */
async function tarMembers(path: string): Promise<Members> {
  const file = await open(path, 'r');
  try {
    const members = await listTar(file, (await file.stat()).size, basename(path));
    const follow = (name: string): Member | null => {
      let member = members.get(posix.normalize(name));
      for (let links = 0; typeof member?.link === 'string'; links += 1) {
        if (links > linksMax) return null;
        member = members.get(member.link);
      }
      return member ?? null;
    };
    return {
      find: (name) => {
        const member = follow(name);
        return Promise.resolve(member === null ? null : { bytes: member.bytes, read: () => piecesOf(file, member.offset, member.bytes) });
      },
      close: () => file.close(),
    };
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}

async function listTar(file: FileHandle, size: number, name: string): Promise<Map<string, Member>> {
  const members = new Map<string, Member>();
  const block = Buffer.alloc(512);
  let extended: Pax | undefined;
  for (let at = 0; at + 512 <= size; ) {
    await file.read(block, 0, 512, at);
    if (at === 0 && block[0] === 0x1f && block[1] === 0x8b) throw new Failure('image-compressed', `${name} is compressed`, { remedy: `Unpack it: \`gunzip ${name}\`.` });
    if (block.every((byte) => byte === 0)) break;
    const header = new Header(block, 0, extended as never);
    if (!header.cksumValid) throw unreadable(`${name} is no tar archive`);
    const bytes = header.size ?? 0;
    const offset = at + 512;
    at = offset + Math.ceil(bytes / 512) * 512;
    if (offset + bytes > size) throw unreadable(`${name} ends too early`);
    if (header.type === 'ExtendedHeader') {
      const text = Buffer.alloc(Math.min(bytes, 64 * 1024));
      await file.read(text, 0, text.length, offset);
      extended = Pax.parse(text.toString('utf8'), extended as never, false);
      continue;
    }
    extended = undefined;
    if (members.size >= membersMax) throw unreadable(`${name} has more than ${membersMax} members`);
    const path = posix.normalize(header.path ?? '');
    const link = header.type === 'SymbolicLink' ? posix.join(posix.dirname(path), header.linkpath ?? '') : header.type === 'Link' ? posix.normalize(header.linkpath ?? '') : null;
    if (link !== null || header.type === 'File' || header.type === 'OldFile') members.set(path, { offset, bytes, link });
  }
  return members;
}
