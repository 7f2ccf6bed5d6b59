import type { ArchiveLimits, EntryKind } from './archive.ts';

/**
 * Layers of OCI images (OCI image specification, layer.md). A layer is named by the digest of its tar as it is unpacked (the `diff_id` of an
 * image's config), so that it is the same one however it came packed.
 */
export const layerPattern = /^sha256:[0-9a-f]{64}$/;
export const layersMax = 128;

/** `entriesMax` and `unpackedBytesMax`: of all layers of an image together. */
export interface ImageLimits extends ArchiveLimits {
  /** Ids of owners: those that an instance has. */
  readonly idMax: number;
}

export const imageLimits: ImageLimits = {
  entriesMax: 400_000,
  unpackedBytesMax: 4 * 1024 ** 3,
  ratioMax: 200,
  ratioFromBytes: 64 * 1024 ** 2,
  pathBytesMax: 4096,
  depthMax: 128,
  idMax: 65_535,
};

export interface LayerEntry {
  readonly path: string;
  readonly kind: EntryKind;
  /** What the archive calls the kind, for the sentence. */
  readonly kindName: string;
  readonly bytes: number;
  /** Where a link points; empty otherwise. */
  readonly target: string;
  readonly uid: number;
  readonly gid: number;
}

export type LayerCode = 'image-path' | 'image-link' | 'image-device' | 'image-owner' | 'image-too-big' | 'image-bomb' | 'image-sparse' | 'layer-corrupt';

export interface LayerRefusal {
  readonly code: LayerCode;
  readonly reason: string;
}

/** What has been seen of an image's layers so far; begun by `openLayerCount`, changed by `judgeLayerEntry` alone. */
export interface LayerCount {
  entries: number;
  bytes: number;
}

export const openLayerCount = (): LayerCount => ({ entries: 0, bytes: 0 });

/**
 * Judges the next header of a layer, before a byte of it is written; null when it may be unpacked. Links may point anywhere, for whoever
 * unpacks follows them inside the root only (umoci), and so does the kernel in a box; what is refused is what no honest layer has.
 */
export function judgeLayerEntry(count: LayerCount, entry: LayerEntry, limits: ImageLimits = imageLimits): LayerRefusal | null {
  count.entries += 1;
  count.bytes += entry.bytes;
  if (count.entries > limits.entriesMax) return { code: 'image-too-big', reason: `the image has more than ${limits.entriesMax} files` };
  if (count.bytes > limits.unpackedBytesMax) return { code: 'image-too-big', reason: `unpacked, the image is more than ${limits.unpackedBytesMax} bytes` };
  if (entry.kind === 'other') return { code: 'image-device', reason: `${quote(entry.path)} is a ${entry.kindName}; only files, folders and links may be in an image` };
  const wrong = whyNoPath(entry.path, limits);
  if (wrong !== '') return { code: 'image-path', reason: `${quote(entry.path)} ${wrong}` };
  if (entry.kind === 'hardlink' && whyNoPath(entry.target, limits) !== '') {
    return { code: 'image-link', reason: `${quote(entry.path)} is a hard link to ${quote(entry.target)}, which ${whyNoPath(entry.target, limits)}` };
  }
  if (entry.kind === 'symlink' && (entry.target === '' || entry.target.includes('\0') || entry.target.length > limits.pathBytesMax)) {
    return { code: 'image-link', reason: `${quote(entry.path)} is a link to nothing that can be` };
  }
  if (entry.uid > limits.idMax || entry.gid > limits.idMax) {
    return { code: 'image-owner', reason: `${quote(entry.path)} belongs to ${entry.uid}:${entry.gid}; an instance has ids to ${limits.idMax}` };
  }
  return null;
}

/** Asked as bytes are unpacked: `bytes` of all layers, out of `packedBytes`. */
export function judgeLayerSize(bytes: number, packedBytes: number, limits: ImageLimits = imageLimits): LayerRefusal | null {
  // Headers and padding are not in the sum of files.
  if (bytes > limits.unpackedBytesMax + limits.entriesMax * 2048) return { code: 'image-too-big', reason: `unpacked, the image is more than ${limits.unpackedBytesMax} bytes` };
  if (bytes > limits.ratioFromBytes && bytes > limits.ratioMax * Math.max(1, packedBytes)) return { code: 'image-bomb', reason: `a layer unpacks to more than ${limits.ratioMax} times its size` };
  return null;
}

/** A sparse file announces fewer bytes than whoever unpacks it writes (GNU tar manual, "PAX Format, Version 1.0"). */
export function judgeLayerExtension(text: string): LayerRefusal | null {
  return text.includes('GNU.sparse.') ? { code: 'image-sparse', reason: 'a layer holds a sparse file' } : null;
}

const quote = (text: string): string => JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);

function whyNoPath(path: string, limits: ImageLimits): string {
  if (path === '' || path.includes('\0')) return 'is no path';
  if (new TextEncoder().encode(path).length > limits.pathBytesMax) return `is longer than ${limits.pathBytesMax} bytes`;
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..')) return 'goes out of the image by `..`';
  if (names.length > limits.depthMax) return `is more than ${limits.depthMax} folders deep`;
  return names.some((name) => new TextEncoder().encode(name).length > 255) ? 'has a name of more than 255 bytes' : '';
}
