/** A message that waits, as the plan sees it. Times are wall clock, milliseconds since 1970: they outlive the machine's boot. */
export interface MessageView {
  readonly id: string;
  readonly sentWallMs: number;
  readonly notBeforeWallMs: number;
  readonly state: 'waits' | 'under way' | 'taken' | 'dead';
}

export interface QueuePlan {
  /** In the order in which they were sent. */
  readonly deliver: readonly string[];
  /** When to look again; null: when something changes. */
  readonly lookAgainWallMs: number | null;
}

/** Requests under way, of one provider and in all; messages beyond wait. */
export const atOnce = { provider: 16, all: 64 } as const;
export const backoffMsMax = 600_000;

/** Which messages of one queue are to be delivered now. `room`: how many more may be under way. */
export function planQueue(messages: Iterable<MessageView>, about: { readonly concurrency: number; readonly room: number; readonly nowWallMs: number }): QueuePlan {
  const { concurrency, room, nowWallMs } = about;
  const due: MessageView[] = [];
  let underWay = 0;
  let lookAgainWallMs: number | null = null;
  for (const message of messages) {
    if (message.state === 'under way') underWay += 1;
    if (message.state !== 'waits') continue;
    // What waits longer than anything may was written by a clock that has been set back.
    const waitsMs = message.notBeforeWallMs - nowWallMs;
    if (waitsMs <= 0 || waitsMs > backoffMsMax) due.push(message);
    else lookAgainWallMs = Math.min(lookAgainWallMs ?? Infinity, message.notBeforeWallMs);
  }
  due.sort((a, b) => a.sentWallMs - b.sentWallMs || (a.id < b.id ? -1 : 1));
  return { deliver: due.slice(0, Math.max(0, Math.min(concurrency - underWay, room))).map(({ id }) => id), lookAgainWallMs };
}

export type Outcome =
  | { readonly kind: 'taken' }
  | { readonly kind: 'again'; readonly notBeforeWallMs: number; readonly reason: string }
  | { readonly kind: 'dead'; readonly reason: string };

/** What becomes of a message after its `attempts`-th attempt (from 1 on): each pause is five times as long as the one before, ten minutes at most. */
export function judgeAttempt(
  { status, reason }: { readonly status: number; readonly reason: string },
  { attempts, attemptsMax, backoffSeconds, nowWallMs }: { readonly attempts: number; readonly attemptsMax: number; readonly backoffSeconds: number; readonly nowWallMs: number },
): Outcome {
  if (reason === '' && status >= 200 && status < 300) return { kind: 'taken' };
  const said = (reason === '' ? `it answered ${status}` : `${status === 0 ? 'no answer' : status}: ${reason}`).slice(0, 500);
  if (attempts >= attemptsMax) return { kind: 'dead', reason: said };
  return { kind: 'again', notBeforeWallMs: nowWallMs + Math.min(backoffMsMax, backoffSeconds * 1000 * 5 ** (attempts - 1)), reason: said };
}
