import fc from 'fast-check';
import t from 'tap';
import { atOnce, lateMsMax, planCron } from '../../edgepoint/cron/plan.ts';
import type { TaskView } from '../../edgepoint/cron/plan.ts';

const minuteMs = 60_000;
/** Every minute. */
const next = (after: number): number => (Math.floor(after / minuteMs) + 1) * minuteMs;
const task = (change: Partial<TaskView> = {}): TaskView => ({ id: 'a', provider: 'ann', nextWallMs: 10 * minuteMs, next, running: false, ...change });
const nobody = new Map<string, number>();

t.test('what is due, and why', async (t) => {
  const rows: readonly (readonly [label: string, view: Partial<TaskView>, nowMs: number, plan: object])[] = [
    ['not yet', {}, 10 * minuteMs - 1, { run: [], skip: [], lookAgainWallMs: 10 * minuteMs }],
    ['far away: the clock may be set', {}, 0, { run: [], skip: [], lookAgainWallMs: 30_000 }],
    ['on the minute', {}, 10 * minuteMs, { run: [{ id: 'a', dueWallMs: 10 * minuteMs, reason: 'it is due' }], skip: [] }],
    ['a little late', {}, 10 * minuteMs + 5000, { run: [{ id: 'a', dueWallMs: 10 * minuteMs, reason: 'it is due since 5 s' }] }],
    ['several times: once, for the last', {}, 13 * minuteMs + 1, { run: [{ id: 'a', dueWallMs: 13 * minuteMs }], skip: [] }],
    ['hours ago, and again just now', {}, 500 * minuteMs, { run: [{ id: 'a', dueWallMs: 500 * minuteMs }], skip: [] }],
    ['long ago, and not since', { next: () => 900 * minuteMs }, 35 * minuteMs, { run: [], skip: [{ id: 'a', dueWallMs: 10 * minuteMs, reason: 'it was due 25 minutes ago' }] }],
    ['the one before goes on', { running: true }, 10 * minuteMs, { run: [], skip: [{ id: 'a', dueWallMs: 10 * minuteMs, reason: 'the one before is still under way' }] }],
    ['never again', { nextWallMs: null }, 10 * minuteMs, { run: [], skip: [], lookAgainWallMs: null }],
  ];
  for (const [label, view, nowMs, plan] of rows) t.match(planCron([task(view)], nowMs, nobody), plan, label);
  t.same(planCron([], 0, nobody), { run: [], skip: [], lookAgainWallMs: null }, 'nothing to do, nothing to look for');
});

t.test('beyond what may be under way at once, the rest waits, the longest due first', async (t) => {
  const many = Array.from({ length: 12 }, (_, index) => task({ id: `a${String(index).padStart(2, '0')}`, next: () => 900 * minuteMs, nextWallMs: (12 - index) * 1000 }));
  const plan = planCron(many, 20_000, new Map([['ann', 3]]));
  t.same(plan.run.map(({ id }) => id), ['a11', 'a10', 'a09', 'a08', 'a07']);
  t.equal(plan.skip.length, 0);
});

t.test('whatever is due: bounds hold, nobody runs twice, everything is dealt with in the end', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ provider: fc.constantFrom('ann', 'ben', 'cat', 'dan', 'eve', 'fay', 'gil', 'hal', 'ida', 'jim'), nextWallMs: fc.integer({ min: 0, max: 2 * lateMsMax }), running: fc.boolean() }), { maxLength: 200 }),
      fc.integer({ min: 0, max: 2 * lateMsMax }),
      (given, nowMs) => {
        const tasks = given.map((one, index) => task({ ...one, id: `${index}`, next: () => Infinity }));
        const running = new Map<string, number>();
        for (const { provider, running: runs } of tasks) if (runs) running.set(provider, (running.get(provider) ?? 0) + 1);
        const before = [...running.values()].reduce((sum, count) => sum + count, 0);
        const { run, skip } = planCron(tasks, nowMs, running);
        const ofProvider = (provider: string): number => run.filter(({ id }) => tasks[Number(id)]?.provider === provider).length;
        const dealt = new Set([...run, ...skip].map(({ id }) => id));
        const due = tasks.filter(({ nextWallMs }) => nextWallMs !== null && nextWallMs <= nowMs);
        const waits = due.filter(({ id }) => !dealt.has(id));
        return (
          dealt.size === run.length + skip.length &&
          run.every(({ id }) => tasks[Number(id)]?.running === false) &&
          due.length === dealt.size + waits.length &&
          run.length <= Math.max(0, atOnce.all - before) &&
          [...new Set(tasks.map(({ provider }) => provider))].every((provider) => ofProvider(provider) <= Math.max(0, atOnce.provider - (running.get(provider) ?? 0))) &&
          // Who waits, waits for a reason.
          waits.every(({ provider }) => ofProvider(provider) + (running.get(provider) ?? 0) >= atOnce.provider || run.length + before >= atOnce.all)
        );
      },
    ),
  );
});
