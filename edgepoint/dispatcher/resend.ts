import { limits } from './limits.ts';

/** Methods whose repetition changes nothing more (RFC 9110, section 9.2.2). */
const idempotentMethods = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

export const isIdempotent = (method: string): boolean => idempotentMethods.has(method);

export interface Attempt {
  readonly method: string;
  /** A byte of the request may have reached the application. */
  readonly sent: boolean;
  /** A byte of an answer has come. */
  readonly answered: boolean;
  /** Every body byte that was sent is still held. */
  readonly bodyHeld: boolean;
  /** How often it was given to an instance, and how often it was sent again after bytes of it had left. */
  readonly attempts: number;
  readonly resends: number;
}

/** Whether a request whose instance failed it may be given to an instance once more. */
export function mayResend(attempt: Attempt): { readonly again: boolean; readonly reason: string } {
  if (attempt.answered) return { again: false, reason: 'the answer had begun' };
  if (attempt.attempts >= limits.attempts) return { again: false, reason: `${attempt.attempts} attempts failed` };
  if (!attempt.bodyHeld) return { again: false, reason: 'its body is no longer held' };
  if (!attempt.sent) return { again: true, reason: 'nothing of it was sent' };
  if (!isIdempotent(attempt.method)) return { again: false, reason: `${attempt.method} may not be repeated` };
  if (attempt.resends >= limits.resends) return { again: false, reason: 'it was sent again already' };
  return { again: true, reason: `${attempt.method} may be repeated` };
}
