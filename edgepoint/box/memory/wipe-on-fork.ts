import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { imageEntries, numberOf, readFields } from '../criu-image.ts';

/**
 * Memory that a program wants zeroed in a child (MADV_WIPEONFORK, madvise(2)) is how libraries notice that their state has been
 * copied: BoringSSL, and so Bun, keeps a page of it and reseeds when it finds zeros there. A clone is a copy too, so snapshots hold zeros.
 */

/** vma_entry (images/vma.proto) */
const vma = { start: 1, end: 2, madvised: 9 } as const;
const wipeOnForkBit = 18; // MADV_WIPEONFORK
/** mm_entry (images/mm.proto) */
const vmasOfMemory = 14;
/** pagemap_head and pagemap_entry (images/pagemap.proto) */
const pagesId = 1;
const entry = { address: 1, pages32: 2, inParent: 3, flags: 4, pages: 5 } as const;
const present = 4;
const pageBytes = 4096;

interface Range {
  readonly start: number;
  readonly end: number;
}

export interface Wipe {
  /** In the pages file. */
  readonly offset: number;
  readonly bytes: number;
}

/** What of `pages-<id>.img` is to become zeros, of one process's memory (`mm-<pid>.img`, `pagemap-<pid>.img`). */
export function wipesOf(memory: Uint8Array, pagemap: Uint8Array): { readonly id: number; readonly wipes: readonly Wipe[] } {
  const wanted = wipedOnFork(memory);
  const [head, ...entries] = imageEntries(pagemap);
  const wipes: Wipe[] = [];
  let offset = 0;
  for (const message of wanted.length === 0 ? [] : entries) {
    const fields = readFields(message);
    const address = numberOf(fields, entry.address) ?? 0;
    const bytes = (numberOf(fields, entry.pages) ?? numberOf(fields, entry.pages32) ?? 0) * pageBytes;
    const flags = numberOf(fields, entry.flags) ?? (numberOf(fields, entry.inParent) ? 0 : present);
    if ((flags & present) === 0) continue; // its pages lie elsewhere
    for (const { start, end } of wanted) {
      const from = Math.max(start, address);
      const to = Math.min(end, address + bytes);
      if (from < to) wipes.push({ offset: offset + from - address, bytes: to - from });
    }
    offset += bytes;
  }
  return { id: head ? (numberOf(readFields(head), pagesId) ?? 0) : 0, wipes };
}

function wipedOnFork(memory: Uint8Array): Range[] {
  const [mm] = imageEntries(memory);
  if (!mm) return [];
  return readFields(mm).flatMap(({ number, bytes }) => {
    if (number !== vmasOfMemory || bytes === null) return [];
    const fields = readFields(bytes);
    if (Math.floor((numberOf(fields, vma.madvised) ?? 0) / 2 ** wipeOnForkBit) % 2 === 0) return [];
    return [{ start: numberOf(fields, vma.start) ?? 0, end: numberOf(fields, vma.end) ?? 0 }];
  });
}

/** Zeroes it in a folder of images. Repeatable. */
export function wipeOnFork(imagesFolder: string): void {
  for (const name of readdirSync(imagesFolder)) {
    const process = /^mm-(\d+)\.img$/.exec(name)?.[1];
    if (process === undefined) continue;
    const { id, wipes } = wipesOf(readFileSync(join(imagesFolder, name)), readFileSync(join(imagesFolder, `pagemap-${process}.img`)));
    if (wipes.length === 0) continue;
    const pages = openSync(join(imagesFolder, `pages-${id}.img`), 'r+');
    try {
      for (const wipe of wipes) writeSync(pages, new Uint8Array(wipe.bytes), 0, wipe.bytes, wipe.offset);
    } finally {
      closeSync(pages);
    }
  }
}
