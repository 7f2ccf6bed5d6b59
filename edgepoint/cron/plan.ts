/** One `cron` of an app, as the plan sees it. Times are wall clock, milliseconds since 1970: a schedule is about nothing else. */
export interface TaskView {
  /** Unique; lower ones go first among those due at one time. */
  readonly id: string;
  readonly provider: string;
  /** The next minute of its schedule after the last that was dealt with; null: none any more. */
  readonly nextWallMs: number | null;
  /** The minute after that one, and so on: `kit/schedule.ts`. */
  next(afterWallMs: number): number | null;
  /** The one before has not ended. */
  readonly running: boolean;
}

export interface CronPlan {
  readonly run: readonly { readonly id: string; readonly dueWallMs: number; readonly reason: string }[];
  /** Dealt with by not doing it: their provider is told why. */
  readonly skip: readonly { readonly id: string; readonly dueWallMs: number; readonly reason: string }[];
  /** When to look again; null: when something changes. */
  readonly lookAgainWallMs: number | null;
}

/** What is later than that is left out: whoever was away for hours does not begin with what was due then. */
export const lateMsMax = 10 * 60_000;
/** Requests under way, of one provider and in all; what is due beyond it waits, the longest due first. */
export const atOnce = { provider: 8, all: 64 } as const;
/** The wall clock may be set: it is looked at again at least so often. */
const lookMsMax = 30_000;

/**
 * Which of the tasks are to be run now. A task that is due several times is run once, for the last of them; none runs twice at a time.
 * `runningOf`: requests under way, by provider.
 */
export function planCron(tasks: Iterable<TaskView>, nowWallMs: number, runningOf: ReadonlyMap<string, number>): CronPlan {
  const run: { id: string; dueWallMs: number; reason: string }[] = [];
  const skip: { id: string; dueWallMs: number; reason: string }[] = [];
  const due: { task: TaskView; dueWallMs: number }[] = [];
  let lookAgainWallMs: number | null = null;
  for (const task of tasks) {
    if (task.nextWallMs === null) continue;
    const at = task.nextWallMs <= nowWallMs ? null : task.nextWallMs;
    lookAgainWallMs = Math.min(lookAgainWallMs ?? Infinity, at ?? Infinity, nowWallMs + lookMsMax);
    if (at === null) due.push({ task, dueWallMs: lastDue(task, task.nextWallMs, nowWallMs) });
  }
  due.sort((a, b) => a.dueWallMs - b.dueWallMs || (a.task.id < b.task.id ? -1 : 1));
  const counts = new Map(runningOf);
  let all = 0;
  for (const count of runningOf.values()) all += count;
  for (const { task, dueWallMs } of due) {
    const lateMs = nowWallMs - dueWallMs;
    const { id, provider } = task;
    const ofProvider = counts.get(provider) ?? 0;
    if (lateMs > lateMsMax) skip.push({ id, dueWallMs, reason: `it was due ${Math.round(lateMs / 60_000)} minutes ago` });
    else if (task.running) skip.push({ id, dueWallMs, reason: 'the one before is still under way' });
    else if (ofProvider < atOnce.provider && all < atOnce.all) {
      counts.set(provider, ofProvider + 1);
      all += 1;
      run.push({ id, dueWallMs, reason: lateMs < 1000 ? 'it is due' : `it is due since ${Math.round(lateMs / 1000)} s` });
    }
  }
  return { run, skip, lookAgainWallMs };
}

/** The last minute of the schedule that has come; of those too long ago, any. */
function lastDue(task: TaskView, firstWallMs: number, nowWallMs: number): number {
  let last = firstWallMs;
  const from = Math.max(firstWallMs, nowWallMs - lateMsMax - 1);
  for (let next = task.next(from); next !== null && next <= nowWallMs; next = task.next(next)) last = next;
  return last;
}
