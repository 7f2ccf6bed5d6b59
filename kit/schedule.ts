import { Cron } from 'croner';

/** When something is to happen again and again: the five fields of crontab(5), in UTC. */
export interface Schedule {
  /** Milliseconds since 1970 of the first minute it names after that time; null: there is none any more. */
  next(afterWallMs: number): number | null;
}

export type ReadSchedule = { readonly ok: true; readonly schedule: Schedule } | { readonly ok: false; readonly reason: string };

export const scheduleCharactersMax = 100;

/** Names of months and days are letters; what else libraries know beyond crontab(5) (L, W, #, seconds, years) would be ours to keep for ever. */
const fields = /^\s*([0-9A-Za-z*,/-]+\s+){4}[0-9A-Za-z*,/-]+\s*$/;
const names = /^(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat)$/i;

/** Reads `minute hour day-of-month month day-of-week`; where both days are named, either will do, as in crontab(5). Never throws. */
export function readSchedule(text: string): ReadSchedule {
  if (text.length > scheduleCharactersMax || !fields.test(text)) return { ok: false, reason: 'a schedule has five fields: minute, hour, day of month, month, day of week' };
  const word = text.match(/[A-Za-z]+/g)?.find((one) => !names.test(one));
  if (word !== undefined) return { ok: false, reason: `"${word}" is neither a month nor a day of the week` };
  try {
    const cron = new Cron(text.trim(), { mode: '5-part', timezone: 'UTC', paused: true });
    const next = (afterWallMs: number): number | null => cron.nextRun(new Date(afterWallMs))?.getTime() ?? null;
    // A year that is not a leap year: every day but the 29th of February comes within eight years of it.
    if (next(Date.UTC(2001, 0, 1)) === null) return { ok: false, reason: 'there is no such day' };
    return { ok: true, schedule: { next } };
  } catch (thrown) {
    return { ok: false, reason: (thrown instanceof Error ? thrown.message : String(thrown)).replace(/^CronPattern: /, '') };
  }
}
