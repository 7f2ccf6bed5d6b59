/**
 * Which archives may be unpacked. The judge sees each entry's header in turn, before a byte of it reaches a disk, and keeps what
 * it must remember of the earlier ones; the conduit asks it at the door, and an edgepoint asks it again before it unpacks.
 *
 * Why an archive that passes cannot write or point outside its tree, in whatever order the entries stand:
 * every path consists of plain names; no entry lies below a link; a path is never used twice (a directory may be named again);
 * so each link's parent is a real directory of known depth. A link's target is some `..` (at most that depth) and then plain
 * names, so it begins inside the tree, and any link among those names does so too.
 */
export interface ArchiveLimits {
  readonly entriesMax: number;
  /** The sum of all files when unpacked. */
  readonly unpackedBytesMax: number;
  /** Unpacked bytes for each packed byte; only asked above `ratioFromBytes`, for small text packs very well. */
  readonly ratioMax: number;
  readonly ratioFromBytes: number;
  /** Bytes of a whole path, and names in it. */
  readonly pathBytesMax: number;
  readonly depthMax: number;
}

export const archiveLimits: ArchiveLimits = {
  entriesMax: 200_000,
  unpackedBytesMax: 2 * 1024 * 1024 * 1024,
  ratioMax: 200,
  ratioFromBytes: 64 * 1024 * 1024,
  pathBytesMax: 1024,
  depthMax: 64,
};

export type EntryKind = 'file' | 'directory' | 'symlink' | 'hardlink' | 'other';

/** One header. `kind` is `other` for devices, fifos and everything else that is not of the first four. */
export interface ArchiveEntry {
  readonly path: string;
  readonly kind: EntryKind;
  /** What the archive calls the kind, for the sentence. */
  readonly kindName: string;
  /** Bytes of its contents; 0 for links and directories. */
  readonly bytes: number;
  /** Where a symlink or hardlink points; empty otherwise. */
  readonly target: string;
}

/** Stable codes of refusal. */
export type ArchiveCode =
  | 'archive-path'
  | 'archive-link'
  | 'archive-device'
  | 'archive-duplicate'
  | 'archive-too-many-entries'
  | 'archive-too-big'
  | 'archive-bomb'
  | 'archive-truncated'
  | 'archive-corrupt';

export type Verdict =
  /** `path` is the entry's place in the tree: plain names joined by `/`, empty for the tree itself. */
  | { readonly ok: true; readonly path: string; readonly target: string }
  | { readonly ok: false; readonly code: ArchiveCode; readonly reason: string };

/** What the judge remembers; made by `openJudgement`, changed only by `judgeEntry`. Its size is bounded by `entriesMax` and `depthMax`. */
export interface Judgement {
  readonly limits: ArchiveLimits;
  entries: number;
  unpackedBytes: number;
  readonly kinds: Map<string, EntryKind>;
}

export function openJudgement(limits: ArchiveLimits = archiveLimits): Judgement {
  return { limits, entries: 0, unpackedBytes: 0, kinds: new Map([['', 'directory']]) };
}

/**
 * Judges the next entry. After a refusal the judgement must not be used again.
 * `packedBytes` is the size of the compressed archive; infinite when it is not known yet, then `judgeSize` is asked as bytes come.
 */
export function judgeEntry(judgement: Judgement, entry: ArchiveEntry, packedBytes: number): Verdict {
  const { limits } = judgement;
  judgement.entries += 1;
  judgement.unpackedBytes += entry.bytes;
  if (judgement.entries > limits.entriesMax) {
    return refuse('archive-too-many-entries', `it has more than ${limits.entriesMax} entries`);
  }
  const size = judgeSize(limits, judgement.unpackedBytes, packedBytes);
  if (size) return size;
  if (entry.kind === 'other') {
    return refuse('archive-device', `${quote(entry.path)} is a ${entry.kindName}; only files, directories and links may be in it`);
  }
  const names = plainNames(entry.path);
  if (typeof names === 'string') return refuse('archive-path', `${quote(entry.path)} ${names}`);
  const tooLong = judgeLength(limits, entry.path, names);
  if (tooLong) return tooLong;
  const place = judgePlace(judgement, entry, names);
  if (place) return place;
  const target = judgeTarget(judgement, entry, names.length - 1);
  if (!target.ok) return target;
  const path = names.join('/');
  judgement.kinds.set(path, entry.kind);
  return { ok: true, path, target: target.target };
}

/** Whether `unpackedBytes` out of `packedBytes` is too much; also asked between entries, while a big one is being read. */
export function judgeSize(limits: ArchiveLimits, unpackedBytes: number, packedBytes: number): (Verdict & { ok: false }) | null {
  if (unpackedBytes > limits.unpackedBytesMax) {
    return refuse('archive-too-big', `unpacked it is more than ${limits.unpackedBytesMax} bytes`);
  }
  if (unpackedBytes > limits.ratioFromBytes && unpackedBytes > limits.ratioMax * Math.max(1, packedBytes)) {
    return refuse('archive-bomb', `it unpacks to more than ${limits.ratioMax} times its size`);
  }
  return null;
}

const refuse = (code: ArchiveCode, reason: string): Verdict & { ok: false } => ({ ok: false, code, reason });
const quote = (text: string): string => JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);

/** The names of a path, or what is wrong with it. `./` and doubled slashes mean nothing and are dropped. */
function plainNames(path: string): readonly string[] | string {
  if (path.includes('\0')) return 'has a zero byte in its name';
  if (path.startsWith('/')) return 'is an absolute path';
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..')) return 'goes out of the folder by `..`';
  return names;
}

function judgeLength(limits: ArchiveLimits, path: string, names: readonly string[]): (Verdict & { ok: false }) | null {
  const bytes = new TextEncoder().encode(path).length;
  if (bytes > limits.pathBytesMax) return refuse('archive-path', `${quote(path)} is longer than ${limits.pathBytesMax} bytes`);
  if (names.length > limits.depthMax) return refuse('archive-path', `${quote(path)} is more than ${limits.depthMax} folders deep`);
  if (names.some((name) => new TextEncoder().encode(name).length > 255)) {
    return refuse('archive-path', `${quote(path)} has a name of more than 255 bytes`);
  }
  return null;
}

/** Notes the folders above as directories; refuses a place below a link or file, and a second use of a path. */
function judgePlace(judgement: Judgement, entry: ArchiveEntry, names: readonly string[]): (Verdict & { ok: false }) | null {
  let above = '';
  for (const name of names.slice(0, -1)) {
    above = above === '' ? name : `${above}/${name}`;
    const kind = judgement.kinds.get(above);
    if (kind === undefined) judgement.kinds.set(above, 'directory');
    else if (kind === 'symlink') return refuse('archive-link', `${quote(entry.path)} lies behind the link ${quote(above)}`);
    else if (kind !== 'directory') return refuse('archive-path', `${quote(entry.path)} lies below the file ${quote(above)}`);
  }
  const earlier = judgement.kinds.get(names.join('/'));
  if (earlier === undefined || (earlier === 'directory' && entry.kind === 'directory')) return null;
  return refuse('archive-duplicate', `${quote(entry.path)} is in it twice`);
}

/** `depth` is how many folders lie above the link. */
function judgeTarget(judgement: Judgement, entry: ArchiveEntry, depth: number): Verdict {
  if (entry.kind === 'hardlink') {
    const names = plainNames(entry.target);
    if (typeof names === 'string') return refuse('archive-link', `${quote(entry.path)} is a hard link, and its target ${names}`);
    const target = names.join('/');
    if (judgement.kinds.get(target) === 'file') return { ok: true, path: '', target };
    return refuse('archive-link', `${quote(entry.path)} is a hard link to ${quote(entry.target)}, which is no earlier file of the archive`);
  }
  if (entry.kind !== 'symlink') return { ok: true, path: '', target: '' };
  const { target } = entry;
  if (target === '' || target.includes('\0')) return refuse('archive-link', `${quote(entry.path)} is a link to nothing`);
  if (target.length > judgement.limits.pathBytesMax) return refuse('archive-link', `${quote(entry.path)} has a target that is too long`);
  if (target.startsWith('/')) return refuse('archive-link', `${quote(entry.path)} is a link to the absolute path ${quote(target)}`);
  const names = target.split('/').filter((name) => name !== '' && name !== '.');
  const firstPlain = names.findIndex((name) => name !== '..');
  const ups = firstPlain === -1 ? names.length : firstPlain;
  if (names.slice(ups).includes('..')) {
    return refuse('archive-link', `${quote(entry.path)} is a link to ${quote(target)}; \`..\` may stand only at the beginning of a target`);
  }
  if (ups > depth) return refuse('archive-link', `${quote(entry.path)} is a link out of the folder, to ${quote(target)}`);
  return { ok: true, path: '', target };
}
