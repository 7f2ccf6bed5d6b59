import fc from 'fast-check';
import t from 'tap';
import { defaultRules, planRenewals } from '../../certificates/plan.ts';
import type { Attempts, HeldCertificate, WantedCertificate } from '../../certificates/plan.ts';

const day = 86_400_000;
const wanted = (name: string): WantedCertificate => ({ name, names: [name], proof: 'http-01' });
const held = (name: string, fromMs: number, toMs: number): [string, HeldCertificate] => [name, { name, names: [name], notBeforeMs: fromMs, notAfterMs: toMs }];
const failed = (failures: number, lastMs: number): Attempts => ({ failures, lastMs, code: 'authority-away', text: 'it does not answer' });

/** One row: what there is of `a`, and what follows from it at day 100. */
const nowMs = 100 * day;
const rows: readonly { what: string; held?: [number, number]; tried?: [number, number]; orders: boolean; warning?: string; untilMs?: number }[] = [
  { what: 'nothing yet', orders: true },
  { what: 'nothing yet, a first failure just now', tried: [1, nowMs - 1], orders: false, warning: 'certificate-missing', untilMs: nowMs - 1 + 60_000 },
  { what: 'a first failure a minute ago', tried: [1, nowMs - 60_000], orders: true, warning: 'certificate-missing' },
  { what: 'a third failure a minute ago', tried: [3, nowMs - 60_000], orders: false, warning: 'certificate-missing', untilMs: nowMs - 60_000 + 16 * 60_000 },
  { what: 'a hundredth failure 12 hours ago', tried: [100, nowMs - day / 2], orders: true, warning: 'certificate-missing' },
  { what: 'a failure in the future, for the clock was set back', tried: [1, nowMs + 50 * day], orders: false, warning: 'certificate-missing', untilMs: nowMs + 60_000 },
  { what: 'fresh', held: [99, 189], orders: false, untilMs: 159 * day },
  { what: 'two thirds over', held: [40, 130], orders: true },
  { what: 'two thirds over and a failure', held: [40, 130], tried: [1, nowMs], orders: false, untilMs: nowMs + 60_000 },
  { what: 'less than a quarter left', held: [30, 120], tried: [9, nowMs - 1], orders: false, warning: 'certificate-ends-soon', untilMs: nowMs - 1 + day / 2 },
  { what: 'a short-lived one is tried again sooner', held: [96, 101], tried: [9, nowMs - day], orders: true, warning: 'certificate-ends-soon' },
  { what: 'ended', held: [1, 91], orders: true, warning: 'certificate-ended' },
];

t.test('what is asked for, when, and what is warned of', async (t) => {
  for (const row of rows) {
    const have = new Map(row.held === undefined ? [] : [held('a', row.held[0] * day, row.held[1] * day)]);
    const tried = new Map(row.tried === undefined ? [] : [['a', failed(...row.tried)] as const]);
    const plan = planRenewals(nowMs, [wanted('a')], have, tried);
    t.equal(plan.orders.length, row.orders ? 1 : 0, row.what);
    t.equal(plan.warnings[0]?.code ?? '', row.warning ?? '', `${row.what}: warning`);
    t.equal(plan.waiting[0]?.untilMs ?? 0, row.untilMs ?? 0, `${row.what}: until`);
    t.ok([...plan.orders, ...plan.waiting].every(({ reason }) => reason !== ''), `${row.what}: with a reason`);
  }
});

t.test('the most urgent first, one that lacks a name at once, and what nobody wants is told', async (t) => {
  const have = new Map([held('soon', 0, 110 * day), held('later', 10 * day, 120 * day), held('wide', 99 * day, 190 * day), held('old', 0, day)]);
  const want = [wanted('later'), wanted('soon'), wanted('new'), { ...wanted('wide'), names: ['wide', '*.wide'] }];
  const plan = planRenewals(nowMs, want, have, new Map());
  t.same(plan.orders.map(({ name }) => name), ['new', 'soon', 'later', 'wide']);
  t.match(plan.orders[3]?.reason, 'it lacks *.wide');
  t.same(plan.unwanted, ['old']);
});

t.test('nothing is forgotten, and until the next look the answer stays', async (t) => {
  const names = ['a', 'b', 'c'];
  const moment = fc.integer({ min: 1, max: 300 * day });
  const world = fc.record({
    at: moment,
    held: fc.dictionary(fc.constantFrom(...names), fc.tuple(moment, fc.integer({ min: 1000, max: 90 * day }))),
    tried: fc.dictionary(fc.constantFrom(...names), fc.tuple(fc.integer({ min: 1, max: 30 }), moment)),
  });
  fc.assert(
    fc.property(world, ({ at, held: has, tried }) => {
      const have = new Map(Object.entries(has).map(([name, [fromMs, ms]]) => held(name, fromMs, fromMs + ms)));
      const attempts = new Map(Object.entries(tried).map(([name, [failures, lastMs]]) => [name, failed(failures, lastMs)]));
      const look = (ms: number) => planRenewals(ms, names.map(wanted), have, attempts);
      const plan = look(at);
      t.same([...plan.orders, ...plan.waiting].map(({ name }) => name).sort(), names);
      for (const { untilMs } of plan.waiting) {
        // Before a clock that was set back comes to its beginning, a certificate is not renewed.
        const fromMs = Math.max(at, ...[...have.values()].map(({ notBeforeMs }) => notBeforeMs));
        if (untilMs > fromMs + Math.max(defaultRules.retryMsMax, 90 * day)) t.fail('it waits too long');
      }
      // An attempt of the future is held to be of now, and moves with it.
      if ([...attempts.values()].some(({ lastMs }) => lastMs > at) || plan.nextMs === Infinity) return;
      const before = look(plan.nextMs - 1);
      t.same(before.orders.map(({ name }) => name).sort(), plan.orders.map(({ name }) => name).sort());
      t.same(before.warnings.map(({ code, name }) => [code, name]), plan.warnings.map(({ code, name }) => [code, name]));
    }),
    { numRuns: 300 },
  );
});
