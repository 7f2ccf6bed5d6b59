import { chmodSync, closeSync, ftruncateSync, lchownSync, linkSync, lstatSync, mkdirSync, openSync, readdirSync, readlinkSync, readSync, symlinkSync, writeSync } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import type { FileCalls } from '../model/file-calls.ts';

/** Names are bytes on Linux; in here a path is a string of one character for each byte (latin1), relative to the tree's root. */
const toBytes = (path: string): Buffer => Buffer.from(path, 'latin1');
const toPath = (bytes: Buffer): string => bytes.toString('latin1');
const inFolder = (folder: string, path: string): Buffer => Buffer.concat([Buffer.from(folder), toBytes(`/${path}`)]);

interface Common {
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Nanoseconds since 1970, too many for a number. */
  readonly changedNs: string;
  /** Values in base64. */
  readonly xattrs: readonly (readonly [string, string])[];
}

export type TreeEntry = Common &
  (
    | { readonly kind: 'folder' }
    | { readonly kind: 'link'; readonly target: string }
    /** A whiteout of an overlay is a character device 0:0 and must stay one. */
    | { readonly kind: 'node'; readonly type: number; readonly device: string }
    /** `ranges`: where there is data; what is stored is these, one after another. */
    | { readonly kind: 'file'; readonly bytes: number; readonly ranges: readonly (readonly [number, number])[] }
    /** Another name of an earlier file. */
    | { readonly kind: 'again'; readonly first: string }
  );

const typeBits = 0o170_000n;
const types = { folder: 0o040_000n, file: 0o100_000n, link: 0o120_000n } as const;

/** Everything below the parts of a folder, each folder before what is in it. Nothing may change meanwhile. */
export function captureTree(folder: string, parts: readonly string[], calls: FileCalls): TreeEntry[] {
  const entries: TreeEntry[] = [];
  const named = new Map<string, string>();
  const capture = (path: string): void => {
    const where = inFolder(folder, path);
    const status = lstatSync(where, { bigint: true });
    const entry = entryOf(path, where, status, named, calls);
    entries.push(entry);
    if (entry.kind !== 'folder') return;
    for (const name of (readdirSync(where, { encoding: 'buffer' }) as Buffer[]).map(toPath).toSorted()) capture(`${path}/${name}`);
  };
  for (const part of parts) capture(part);
  return entries;
}

function entryOf(path: string, where: Buffer, status: BigIntStats, named: Map<string, string>, calls: FileCalls): TreeEntry {
  const type = status.mode & typeBits;
  const common: Common = {
    path,
    mode: Number(status.mode & 0o7777n),
    uid: Number(status.uid),
    gid: Number(status.gid),
    changedNs: String(status.mtimeNs),
    xattrs: calls.xattrs(where).map(([name, value]) => [name, value.toString('base64')] as const),
  };
  if (type === types.folder) return { ...common, kind: 'folder' };
  if (status.nlink > 1n) {
    const first = named.get(`${status.dev}:${status.ino}`);
    if (first !== undefined) return { ...common, kind: 'again', first };
    named.set(`${status.dev}:${status.ino}`, path);
  }
  if (type === types.link) return { ...common, kind: 'link', target: toPath(readlinkSync(where, { encoding: 'buffer' }) as Buffer) };
  if (type !== types.file) return { ...common, kind: 'node', type: Number(type), device: String(status.rdev) };
  const bytes = Number(status.size);
  const fd = openSync(where, 'r');
  try {
    return { ...common, kind: 'file', bytes, ranges: calls.dataRanges(fd, bytes) };
  } finally {
    closeSync(fd);
  }
}

/** How much a tree's files hold, holes not counted, those below one part only. */
export function contentBytes(entries: readonly TreeEntry[], part: string): number {
  let sum = 0;
  for (const entry of entries) {
    if (entry.kind === 'file' && partOf(entry.path) === part) for (const [, length] of entry.ranges) sum += length;
  }
  return sum;
}

function partOf(path: string): string {
  return path.split('/', 1)[0] ?? '';
}

/** What is sealed: the list of entries (its length in 4 bytes before it), then what the files hold, in pieces of any size. */
export function* plainPieces(folder: string, entries: readonly TreeEntry[], pieceBytes: number): Generator<Buffer> {
  yield encodeEntries(entries);
  for (const entry of entries) {
    if (entry.kind !== 'file' || entry.ranges.length === 0) continue;
    const fd = openSync(inFolder(folder, entry.path), 'r');
    try {
      for (const [from, length] of entry.ranges) {
        for (let done = 0; done < length; ) {
          const piece = Buffer.allocUnsafe(Math.min(pieceBytes, length - done));
          const read = readSync(fd, piece, 0, piece.length, from + done);
          if (read === 0) throw new Error(`${entry.path} became shorter while it was sealed`);
          done += read;
          yield piece.subarray(0, read);
        }
      }
    } finally {
      closeSync(fd);
    }
  }
}

export function encodeEntries(entries: readonly TreeEntry[]): Buffer {
  const text = Buffer.from(JSON.stringify(entries));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return Buffer.concat([length, text]);
}

/** Lays a tree out again from its plain text, piece by piece. */
export interface TreeLayer {
  write(piece: Buffer): void;
  /** Throws when something is missing. */
  finish(): void;
}

/**
 * `folders` says where each part goes; a part that is not in it is read and left out. What is there must not exist yet.
 */
export function layTree(folders: ReadonlyMap<string, string>, calls: FileCalls): TreeLayer {
  let head: Buffer = Buffer.alloc(0);
  let entries: TreeEntry[] | null = null;
  /** Files still to be filled, with their data ranges, in order. */
  let gaps: { entry: TreeEntry & { kind: 'file' }; from: number; left: number; last: boolean }[] = [];
  let at = 0;
  let open: { path: string; fd: number } | null = null;

  const place = (path: string): Buffer | null => {
    const folder = folders.get(partOf(path));
    return folder === undefined ? null : Buffer.concat([Buffer.from(folder), toBytes(path.slice(partOf(path).length))]);
  };

  /** Made by now: whatever is laid goes into one of these folders, never through a link; another name is one of these files. */
  const laidFolders = new Set<string>();
  const laidFiles = new Set<string>();

  function begin(list: TreeEntry[]): void {
    entries = list;
    for (const entry of list) makeEntry(entry);
    gaps = list.flatMap((entry) => (entry.kind === 'file' ? entry.ranges.map(([from, left], index) => ({ entry, from, left, last: index === entry.ranges.length - 1 })) : []));
  }

  function makeEntry(entry: TreeEntry): void {
    if (entry.path.split('/').includes('..')) throw new Error(`a path that leaves its folder: ${entry.path}`);
    const parent = entry.path.slice(0, Math.max(0, entry.path.lastIndexOf('/')));
    if (parent !== '' && !laidFolders.has(parent)) throw new Error(`a path in no folder: ${entry.path}`);
    if (entry.kind === 'again' && !laidFiles.has(entry.first)) throw new Error(`another name of no file: ${entry.first}`);
    (entry.kind === 'folder' ? laidFolders : laidFiles).add(entry.path);
    const where = place(entry.path);
    if (where === null) return;
    if (entry.kind === 'folder') mkdirSync(where, { mode: 0o700 });
    else if (entry.kind === 'link') symlinkSync(toBytes(entry.target), where);
    else if (entry.kind === 'node') calls.makeNode(where, entry.type | entry.mode, BigInt(entry.device));
    else if (entry.kind === 'again') linkSync(place(entry.first) as Buffer, where);
    else {
      const fd = openSync(where, 'wx', 0o600);
      ftruncateSync(fd, entry.bytes);
      closeSync(fd);
    }
  }

  /** A write takes set-id bits and capabilities away, and so does another owner: hence in this order, and after the contents. */
  function dress(entry: TreeEntry, where: Buffer): void {
    lchownSync(where, entry.uid, entry.gid);
    if (entry.kind !== 'link') chmodSync(where, entry.mode);
    for (const [name, value] of entry.xattrs) calls.setXattr(where, name, Buffer.from(value, 'base64'));
    calls.setTime(where, BigInt(entry.changedNs));
  }

  function fill(piece: Buffer): void {
    let done = 0;
    while (done < piece.length) {
      const gap = gaps[at];
      if (gap === undefined) throw new Error('more content than files');
      const part = piece.subarray(done, done + gap.left);
      writeInto(gap.entry, part, gap.from);
      done += part.length;
      gap.from += part.length;
      gap.left -= part.length;
      if (gap.left > 0) continue;
      at += 1;
      if (gap.last) closeOpen();
    }
  }

  function writeInto(entry: TreeEntry, part: Buffer, from: number): void {
    const where = place(entry.path);
    if (where === null) return;
    if (open?.path !== entry.path) {
      closeOpen();
      open = { path: entry.path, fd: openSync(where, 'r+') };
    }
    for (let done = 0; done < part.length; ) done += writeSync(open.fd, part, done, part.length - done, from + done);
  }

  function closeOpen(): void {
    if (open !== null) closeSync(open.fd);
    open = null;
  }

  return {
    write(piece: Buffer): void {
      if (entries !== null) return fill(piece);
      head = head.length === 0 ? piece : Buffer.concat([head, piece]);
      if (head.length < 4 || head.length < 4 + head.readUInt32LE()) return;
      const end = 4 + head.readUInt32LE();
      const rest = head.subarray(end);
      begin(JSON.parse(head.subarray(4, end).toString()) as TreeEntry[]);
      head = Buffer.alloc(0);
      fill(rest);
    },
    finish(): void {
      closeOpen();
      if (entries === null || at !== gaps.length) throw new Error('less content than files');
      // What is in a folder before the folder, whose time it changes.
      for (const entry of entries.toReversed()) {
        const where = entry.kind === 'again' ? null : place(entry.path);
        if (where !== null) dress(entry, where);
      }
    },
  };
}
