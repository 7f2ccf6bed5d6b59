/**
 * An operating failure: a stable code for programs, a sentence for people (what was wrong, where, what to do), its cause.
 * A broken invariant is not one of these: it is a plain Error and crashes.
 */
export class Failure extends Error {
  readonly code: string;
  /** What to do about it, in one sentence; empty when the message already says it. */
  readonly remedy: string;

  constructor(code: string, message: string, options: { remedy?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'Failure';
    this.code = code;
    this.remedy = options.remedy ?? '';
  }
}

/** The message of anything thrown, for logs and answers. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** The code of a Failure, of a system error (`ENOENT`), or `unexpected`. */
export function codeOf(thrown: unknown): string {
  if (thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string') return thrown.code;
  return 'unexpected';
}

/** Breaks the program when an invariant does not hold. */
export function assertInvariant(holds: boolean, invariant: string): asserts holds {
  if (!holds) throw new Error(`broken invariant: ${invariant}`);
}
