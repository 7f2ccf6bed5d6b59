import { openBodyScanner } from './body-scanner.ts';
import type { BodyScanner } from './body-scanner.ts';
import { limits } from './limits.ts';
import { readResponseHead } from './response-head.ts';
import type { ResponseHead } from './response-head.ts';

/** What an application's bytes say, in order. After `bad` or `switched` nothing more is read. */
export type AnswerPart =
  | { readonly kind: 'interim'; readonly head: ResponseHead }
  /** Followed by the body, or its beginning, in the same read. `decoded`: chunks are taken off. */
  | { readonly kind: 'final'; readonly head: ResponseHead; readonly decoded: boolean }
  /** `extra`: bytes came after the end; they belong to no exchange. */
  | { readonly kind: 'body'; readonly pieces: readonly Buffer[]; readonly done: boolean; readonly extra: boolean }
  | { readonly kind: 'switched'; readonly head: ResponseHead; readonly rest: Buffer }
  | { readonly kind: 'bad'; readonly reason: string };

/** What its answer is read for: `decodes` when the client takes no chunks (HTTP/1.0, HTTP/2). */
interface AnsweredRequest {
  readonly method: string;
  readonly decodes: boolean;
}

const none = Buffer.alloc(0);

/** Reads the answer to one request as it comes, in pieces of any size; keeps at most one head. */
export class AnswerReader {
  private input: Buffer = none;
  private interims = 0;
  private body: BodyScanner | null = null;
  private readonly request: AnsweredRequest;
  /** A byte has come. */
  begun = false;
  /** The final head, once it is whole. */
  head: ResponseHead | null = null;
  /** All of the answer has come. */
  done = false;

  constructor(request: AnsweredRequest) {
    this.request = request;
  }

  read(bytes: Buffer): readonly AnswerPart[] {
    this.begun = true;
    if (this.body !== null) return [this.readBody(this.body, bytes)];
    this.input = this.input.length === 0 ? bytes : Buffer.concat([this.input, bytes]);
    return this.readHeads();
  }

  /** The application ended its side: true when that ends the answer whole. */
  ended(): boolean {
    if (this.head?.framing.kind === 'until-close') this.done = true;
    return this.done;
  }

  private readHeads(): readonly AnswerPart[] {
    const parts: AnswerPart[] = [];
    while (this.input.length > 0) {
      const result = readResponseHead(this.input, this.request.method);
      if (result.kind === 'partial') break;
      if (result.kind === 'refused') return [...parts, { kind: 'bad', reason: result.reason }];
      this.input = this.input.subarray(result.end);
      const { head } = result;
      if (head.status === 101) return [...parts, { kind: 'switched', head, rest: this.input }];
      if (head.status >= 200) return [...parts, ...this.readFinal(head)];
      this.interims += 1;
      if (this.interims > limits.interimResponses) return [...parts, { kind: 'bad', reason: 'the application gave too many interim answers' }];
      parts.push({ kind: 'interim', head });
    }
    return parts;
  }

  private readFinal(head: ResponseHead): readonly AnswerPart[] {
    const decoded = this.request.decodes && head.framing.kind === 'chunked';
    const body = openBodyScanner(head.framing, { decoded });
    const first = this.readBody(body, this.input);
    this.input = none;
    this.body = body;
    this.head = head;
    // A body that is bad from its first byte makes the whole answer bad: nothing of it has gone to the client yet.
    return first.kind === 'bad' ? [first] : [{ kind: 'final', head, decoded }, first];
  }

  private readBody(body: BodyScanner, bytes: Buffer): AnswerPart {
    const scanned = body.scan(bytes);
    if (scanned.bad !== '') return { kind: 'bad', reason: scanned.bad };
    this.done = scanned.done || body.done;
    return { kind: 'body', pieces: scanned.pieces, done: this.done, extra: scanned.consumed < bytes.length };
  }
}
