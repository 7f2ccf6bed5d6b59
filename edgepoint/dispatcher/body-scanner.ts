import { hexadecimalValue, tokenCharacter, valueCharacter } from './characters.ts';
import { limits } from './limits.ts';
import type { Framing } from './request-head.ts';

/**
 * Follows a body as it passes, without keeping it, and says where it ends. Bytes are looked at once; what may go on is given as
 * pieces of the same buffer. Chunk extensions are dropped: nobody downstream can then read them in another way than we did.
 *
 * Modes of a chunked body, in order, back to `size` after each chunk:
 * size -> extension -> size-feed -> data -> data-return -> data-feed -> size
 * and after the chunk of size 0: trailer-start -> trailer-name -> trailer-value -> trailer-feed -> ... -> end-feed -> done
 */
type Mode =
  | 'size'
  | 'extension'
  | 'size-feed'
  | 'data'
  | 'data-return'
  | 'data-feed'
  | 'trailer-start'
  | 'trailer-name'
  | 'trailer-value'
  | 'trailer-feed'
  | 'end-feed'
  | 'done'
  | 'bad';

export interface Scanned {
  /** What goes on, in order. */
  readonly pieces: readonly Buffer[];
  /** How many bytes of the input belong to this body. */
  readonly consumed: number;
  readonly done: boolean;
  /** '' or why the framing is refused; nothing of this input goes on then. */
  readonly bad: string;
}

export interface BodyScanner {
  /** `decoded` gives only the data of chunks, for a client of HTTP/1.0. */
  scan(input: Buffer): Scanned;
  readonly done: boolean;
}

const nothing: Scanned = { pieces: [], consumed: 0, done: true, bad: '' };

export function openBodyScanner(framing: Framing, options: { decoded: boolean } = { decoded: false }): BodyScanner {
  if (framing.kind === 'chunked') return new ChunkedScanner(options.decoded);
  if (framing.kind === 'length') return new LengthScanner(framing.bytes);
  if (framing.kind === 'none') return { scan: () => nothing, done: true };
  return { scan: (input) => ({ pieces: [input], consumed: input.length, done: false, bad: '' }), done: false };
}

class LengthScanner implements BodyScanner {
  private left: number;

  constructor(bytes: number) {
    this.left = bytes;
  }

  get done(): boolean {
    return this.left === 0;
  }

  scan(input: Buffer): Scanned {
    const consumed = Math.min(this.left, input.length);
    this.left -= consumed;
    const piece = consumed === input.length ? input : input.subarray(0, consumed);
    return { pieces: consumed === 0 ? [] : [piece], consumed, done: this.left === 0, bad: '' };
  }
}

const htab = 9;
const lf = 10;
const cr = 13;
const semicolon = 59;
const colon = 58;

class ChunkedScanner implements BodyScanner {
  private mode: Mode = 'size';
  private size = 0;
  private digits = 0;
  private extensionBytes = 0;
  private trailerBytes = 0;
  private dataLeft = 0;
  private readonly decoded: boolean;

  constructor(decoded: boolean) {
    this.decoded = decoded;
  }

  get done(): boolean {
    return this.mode === 'done';
  }

  scan(input: Buffer): Scanned {
    const pieces: Buffer[] = [];
    /** Where the piece begins that goes on; -1 while bytes are left out. */
    let pieceStart = this.keeps() ? 0 : -1;
    let at = 0;
    while (at < input.length && this.mode !== 'done') {
      if (this.mode === 'data') {
        const taken = Math.min(this.dataLeft, input.length - at);
        this.dataLeft -= taken;
        at += taken;
        if (this.dataLeft === 0) this.mode = 'data-return';
      } else {
        const bad = this.step(input[at] ?? 0);
        if (bad !== '') {
          this.mode = 'bad';
          return { pieces: [], consumed: at, done: false, bad };
        }
        // The carriage return after an extension goes on; the extension before it does not.
        if (pieceStart < 0 && this.mode === 'size-feed') pieceStart = this.decoded ? -1 : at;
        at += 1;
      }
      const keeps = this.keeps();
      if (keeps && pieceStart < 0) pieceStart = at;
      else if (!keeps && pieceStart >= 0) {
        const end = this.mode === 'extension' ? at - 1 : at;
        if (end > pieceStart) pieces.push(input.subarray(pieceStart, end));
        pieceStart = -1;
      }
    }
    if (pieceStart >= 0 && at > pieceStart) pieces.push(input.subarray(pieceStart, at));
    return { pieces, consumed: at, done: this.mode === 'done', bad: '' };
  }

  /** Whether the next byte goes on. */
  private keeps(): boolean {
    return this.decoded ? this.mode === 'data' : this.mode !== 'extension';
  }

  /** Takes one byte outside chunk data; returns '' or why it is refused. */
  private step(code: number): string {
    switch (this.mode) {
      case 'size':
        return this.stepSize(code);
      case 'extension':
        if (code === cr) this.mode = 'size-feed';
        else if (code !== htab && valueCharacter[code] !== 1) return 'a chunk extension has a control character';
        else if ((this.extensionBytes += 1) > limits.chunkExtensionBytes) return 'a chunk extension is too long';
        return '';
      case 'size-feed':
        if (code !== lf) return 'a chunk size does not end in CRLF';
        this.dataLeft = this.size;
        this.mode = this.size === 0 ? 'trailer-start' : 'data';
        this.size = 0;
        this.digits = 0;
        this.extensionBytes = 0;
        return '';
      case 'data-return':
        if (code !== cr) return 'a chunk is longer than its size says';
        this.mode = 'data-feed';
        return '';
      case 'data-feed':
        if (code !== lf) return 'a chunk does not end in CRLF';
        this.mode = 'size';
        return '';
      default:
        return this.stepTrailer(code);
    }
  }

  private stepSize(code: number): string {
    const value = hexadecimalValue[code] ?? -1;
    if (value >= 0) {
      this.digits += 1;
      if (this.digits > limits.chunkSizeDigits) return 'a chunk size is too long';
      this.size = this.size * 16 + value;
      return '';
    }
    if (this.digits === 0) return 'a chunk size is not a number';
    if (code === cr) this.mode = 'size-feed';
    else if (code === semicolon) this.mode = 'extension';
    else return 'a chunk size is not a number';
    return '';
  }

  private stepTrailer(code: number): string {
    this.trailerBytes += 1;
    if (this.trailerBytes > limits.trailerBytes) return 'the trailer is too large';
    switch (this.mode) {
      case 'trailer-start':
        if (code === cr) this.mode = 'end-feed';
        else if (tokenCharacter[code] === 1) this.mode = 'trailer-name';
        else return 'a trailer field has no name';
        return '';
      case 'trailer-name':
        if (code === colon) this.mode = 'trailer-value';
        else if (tokenCharacter[code] !== 1) return 'a trailer name has a character that is not allowed there';
        return '';
      case 'trailer-value':
        if (code === cr) this.mode = 'trailer-feed';
        else if (valueCharacter[code] !== 1) return 'a trailer value has a control character';
        return '';
      case 'trailer-feed':
        if (code !== lf) return 'a trailer field does not end in CRLF';
        this.mode = 'trailer-start';
        return '';
      case 'end-feed':
        if (code !== lf) return 'the trailer does not end in CRLF';
        this.mode = 'done';
        return '';
      default:
        return 'bytes after the end';
    }
  }
}
