import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { TextPacker } from '../kit/text-packer.ts';

/** As much as texts here have at most; both sides need the same (RFC 1951 looks back no further than 32 KiB). */
const windowBits = 13;
/** What a call takes for itself is garbage right after it: as little as small texts need. */
const working = { windowBits, memLevel: 4, chunkSize: 2048 };

/**
 * Keeps texts that are much alike, as what thousands of sleeping apps are known by: each is deflated (RFC 1951) against the first that came, so
 * that it takes what is its own. Packing takes some 16 us, unpacking 9. What one packed only the same one unpacks.
 */
export class PackedTexts implements TextPacker {
  #first: Buffer | null = null;

  /** A string of one byte a character. */
  pack(text: string): string {
    this.#first ??= Buffer.from(text);
    return deflateRawSync(text, { ...working, dictionary: this.#first }).toString('latin1');
  }

  unpack(packed: string): string {
    if (this.#first === null) throw new Error('broken invariant: what is unpacked was packed');
    return inflateRawSync(Buffer.from(packed, 'latin1'), { ...working, dictionary: this.#first }).toString();
  }
}
