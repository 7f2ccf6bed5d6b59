import fc from 'fast-check';
import t from 'tap';
import { readSchedule } from '../../kit/schedule.ts';

const minuteMs = 60_000;
const at = (text: string): number => Date.parse(text);

const rows: readonly (readonly [schedule: string, after: string, next: string | null])[] = [
  ['* * * * *', '2026-11-29T10:00:00Z', '2026-11-29T10:01:00Z'],
  ['* * * * *', '2026-11-29T10:00:59.999Z', '2026-11-29T10:01:00Z'],
  ['*/15 * * * *', '2026-11-29T10:00:00Z', '2026-11-29T10:15:00Z'],
  ['0 4 * * *', '2026-12-31T04:00:00Z', '2027-01-01T04:00:00Z'],
  ['30 6 1 * *', '2026-11-29T10:00:00Z', '2026-12-01T06:30:00Z'],
  ['0 0 * * 0', '2026-11-29T10:00:00Z', '2026-12-06T00:00:00Z'],
  ['0 0 * * 7', '2026-11-29T10:00:00Z', '2026-12-06T00:00:00Z'],
  ['0 9 * * mon-fri', '2026-11-27T09:00:00Z', '2026-11-30T09:00:00Z'],
  ['0 0 29 FEB *', '2026-11-29T10:00:00Z', '2028-02-29T00:00:00Z'],
  // crontab(5): where both are restricted, either will do.
  ['0 12 1 * 1', '2026-11-29T10:00:00Z', '2026-11-30T12:00:00Z'],
  ['  5   4  *   *  * ', '2026-11-29T10:00:00Z', '2026-11-30T04:05:00Z'],
];

const refused: readonly (readonly [schedule: string, reason: string | RegExp])[] = [
  ['', /five fields/],
  ['* * * *', /five fields/],
  ['* * * * * *', /five fields/],
  ['@daily', /five fields/],
  ['? * * * *', /five fields/],
  ['0 0 L * *', '"L" is neither a month nor a day of the week'],
  ['0 0 * * someday', '"someday" is neither a month nor a day of the week'],
  ['60 * * * *', 'Invalid value for minute: 60'],
  ['* 24 * * *', /hour/],
  ['5-1 * * * *', /larger/],
  ['*/0 * * * *', /./],
  ['0 0 31 2 *', 'there is no such day'],
  [`${'1,'.repeat(60)}1 * * * *`, /five fields/],
];

t.test('the next minute of a schedule', async (t) => {
  for (const [text, after, next] of rows) {
    const read = readSchedule(text);
    if (!read.ok) t.fail(`${text}: ${read.reason}`);
    else t.equal(read.schedule.next(at(after)), next === null ? null : at(next), `${text} after ${after}`);
  }
});

t.test('what is no schedule, and why', async (t) => {
  for (const [text, reason] of refused) {
    const read = readSchedule(text);
    t.equal(read.ok, false, text);
    if (!read.ok) t.match(read.reason, reason, text);
  }
});

t.test('whatever the text, it is read or refused', async () => {
  fc.assert(fc.property(fc.string({ maxLength: 40 }), (text) => typeof readSchedule(text).ok === 'boolean'));
});

/** A field as a list of numbers, and as text. */
const field = (min: number, max: number): fc.Arbitrary<{ text: string; has: (value: number) => boolean; all: boolean }> =>
  fc.oneof(
    fc.constant({ text: '*', has: () => true, all: true }),
    fc.array(fc.integer({ min, max }), { minLength: 1, maxLength: 4 }).map((values) => ({ text: values.join(','), has: (value: number) => values.includes(value), all: false })),
    fc.tuple(fc.integer({ min, max }), fc.integer({ min, max })).map(([one, other]) => {
      const [from, to] = [Math.min(one, other), Math.max(one, other)];
      return { text: `${from}-${to}`, has: (value: number) => value >= from && value <= to, all: false };
    }),
    fc.integer({ min: 2, max: max - min }).map((step) => ({ text: `*/${step}`, has: (value: number) => (value - min) % step === 0, all: false })),
  );

t.test('it names the minutes that crontab(5) would, looked at one by one', async () => {
  fc.assert(
    fc.property(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6), fc.integer({ min: 0, max: 3e12 }), (minute, hour, day, month, weekday, after) => {
      // Every n-th day is neither "any day" nor a list for all crons alike: crontab(5) leaves it open.
      fc.pre(!day.text.startsWith('*/') && !weekday.text.startsWith('*/'));
      const names = (wallMs: number): boolean => {
        const date = new Date(wallMs);
        const byDay = day.has(date.getUTCDate());
        const byWeekday = weekday.has(date.getUTCDay());
        const fits = day.all || weekday.all ? byDay && byWeekday : byDay || byWeekday;
        return minute.has(date.getUTCMinutes()) && hour.has(date.getUTCHours()) && month.has(date.getUTCMonth() + 1) && fits;
      };
      const read = readSchedule([minute, hour, day, month, weekday].map(({ text }) => text).join(' '));
      if (!read.ok) return false;
      const next = read.schedule.next(after);
      const first = Math.floor(after / minuteMs + 1) * minuteMs;
      const looked = first + 2 * 24 * 60 * minuteMs;
      for (let wallMs = first; wallMs < looked; wallMs += minuteMs) if (names(wallMs)) return next === wallMs;
      return next === null || (next >= looked && names(next));
    }),
    { numRuns: 200 },
  );
});
