import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/**
 * Programs that load the clone guard and yet hold a random generator where it cannot reach: one that is compiled into them and never asks
 * the C library. They are known by a text that each such generator brings into the program's file.
 */
const marks: readonly { readonly text: string; readonly generator: string }[] = [
  { text: 'could not initialize thread_rng', generator: 'thread_rng of Rust' }, // rand to 0.8, its panic
  { text: 'could not initialize ThreadRng', generator: 'thread_rng of Rust' }, // rand from 0.9
  { text: '\xff Go buildinf:', generator: 'math/rand of Go' }, // debug/buildinfo: every Go program; one that uses C is linked dynamically
];

const chunkBytes = 1 << 20;
/** A bigger program is read to here: it is the provider's, and may be of any size. */
const readBytesMost = 512 << 20;
const overlap = Math.max(...marks.map(({ text }) => text.length)) - 1;

/** What generator of its own a program's file holds, or null. Reads the file in pieces. Errors: those of open(2) and read(2). */
export function ownGenerator(path: string): string | null {
  const file = openSync(path, 'r');
  try {
    const stat = fstatSync(file, { bigint: true });
    const key = `${stat.dev} ${stat.ino} ${stat.size} ${stat.ctimeNs}`;
    const known = seen.get(key);
    if (known !== undefined) return known;
    const found = search(file);
    if (seen.size >= seenMost) seen.clear();
    seen.set(key, found);
    return found;
  } finally {
    closeSync(file);
  }
}

/** A kept instance is looked at on each of its sleeps. */
const seen = new Map<string, string | null>();
const seenMost = 1000;

function search(file: number): string | null {
  const chunk = Buffer.allocUnsafe(overlap + chunkBytes);
  let kept = 0;
  for (let offset = 0; offset < readBytesMost; ) {
    const read = readSync(file, chunk, kept, chunkBytes, offset);
    if (read === 0) return null;
    const bytes = chunk.subarray(0, kept + read);
    const mark = marks.find(({ text }) => bytes.includes(text, 0, 'latin1'));
    if (mark) return mark.generator;
    offset += read;
    kept = Math.min(overlap, bytes.length);
    chunk.copyWithin(0, bytes.length - kept, bytes.length);
  }
  return null;
}
