import type { OwnAnswer } from './answers.ts';
import { limits } from './limits.ts';

/** What an exchange under way waits for. */
export interface Quiet {
  /** Since the last byte either way. */
  readonly quietMs: number;
  readonly bodyDone: boolean;
  /** Neither the instance nor the client has something queued that it does not take. */
  readonly instanceTakes: boolean;
  readonly clientTakes: boolean;
  /** The client waits for 100 before it sends its body. */
  readonly awaitsContinue: boolean;
  /** The answer is a stream of server-sent events, which may be silent for as long as it likes. */
  readonly eventStream: boolean;
}

/** Whose turn it is, and whether it took too long: the answer to end the exchange with, or null. */
export function timeOut(quiet: Quiet): OwnAnswer | null {
  const clientsTurn = !quiet.bodyDone && quiet.instanceTakes && !quiet.awaitsContinue;
  if (clientsTurn) return quiet.quietMs >= limits.bodyMs ? { status: 408, reason: 'The body of the request did not come.' } : null;
  // A client that does not take its answer has a time-out of its own.
  if (quiet.eventStream || !quiet.clientTakes || quiet.quietMs < limits.responseMs) return null;
  return { status: 504, reason: 'The application did not answer.' };
}
