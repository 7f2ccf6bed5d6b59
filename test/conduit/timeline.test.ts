import fc from 'fast-check';
import t from 'tap';
import { spanOf, timelineOf } from '../../conduit/web/timeline.ts';
import { eventSchema } from '../../kit/wire/event.ts';
import type { AppEvent } from '../../kit/wire/event.ts';

const minuteMs = 60_000;
const nowWallMs = Date.parse('2026-11-29T12:00:00Z');
const event = (agoMinutes: number, change: Partial<AppEvent>): AppEvent =>
  eventSchema.parse({ zone: 'north', edgepoint: 'one', provider: 'ada', scope: 'main', app: 'shop', release: 1, kind: 'wake', text: 'x', wallMs: nowWallMs - agoMinutes * minuteMs, ...change });
const wake = (agoMinutes: number, change: Partial<AppEvent> = {}): AppEvent => event(agoMinutes, { kind: 'wake', tookMs: 20, figures: { warm: 1 }, ...change });
const clone = (agoMinutes: number): AppEvent => event(agoMinutes, { kind: 'scale', tookMs: 40, figures: { warm: 2 } });
const sleep = (agoMinutes: number, figures: AppEvent['figures'] = {}): AppEvent => event(agoMinutes, { kind: 'sleep', figures });
const site = { zone: 'north', edgepoint: 'one', awake: 0 };
const counts = (events: readonly AppEvent[], awake = 0): number[] => (timelineOf(events, { nowWallMs, spanMs: 60 * minuteMs, sites: [{ ...site, awake }] }).lanes[0]?.awake ?? []).map(({ count }) => count);

t.test('how many were awake is counted back from now', async (t) => {
  t.same(counts([]), [0]);
  t.same(counts([], 3), [3], 'nothing happened: as many as now');
  t.same(counts([wake(9), clone(8), sleep(7), sleep(6)]), [0, 1, 2, 1, 0]);
  t.same(counts([sleep(5), wake(4)], 1), [1, 0, 1], 'one was awake before the span');
  t.same(counts([wake(9), sleep(8, { givenBackBytes: 1 }), event(7, { kind: 'wake', tookMs: 3 }), sleep(6)]), [0, 1, 0], 'a freeze and a thaw change nothing');
  t.same(counts([wake(9), event(8, { kind: 'fault', code: 'app-exited' }), event(7, { kind: 'fault', code: 'restore-failed' })]), [0, 1, 0]);
  t.same(counts([wake(9), wake(8)]), [0, 0, 0], 'what contradicts itself stays a number that can be');
});

t.test('what is shown of it', async (t) => {
  const other = { zone: 'south', edgepoint: 'two', awake: 0 };
  const events = [wake(90), wake(9), clone(8), event(7, { kind: 'fault' }), event(6, { kind: 'deploy', stage: 'ready' }), event(6, { kind: 'deploy', stage: 'boot' }), event(5, { kind: 'deploy', stage: 'failed' }), { ...wake(4), ...other, tookMs: 100 }];
  const shown = timelineOf(events.toReversed(), { nowWallMs, spanMs: 60 * minuteMs, sites: [site, other] });
  t.same(shown.lanes.map(({ name, marks }) => [name, marks.map(({ kind }) => kind)]), [['north/one', ['wake', 'clone', 'fault', 'deploy', 'fault']], ['south/two', ['wake']]]);
  t.same(shown.wakes, { count: 3, p50Ms: 40, p95Ms: 100 });
  t.equal(shown.happened.length, 7, 'not what was before');
  t.equal(shown.happened[0]?.edgepoint, 'two', 'the newest first');
});

t.test('over which time', async (t) => {
  t.equal(spanOf([], nowWallMs), 10 * minuteMs);
  t.equal(spanOf([wake(3)], nowWallMs), 10 * minuteMs);
  t.equal(spanOf([wake(3), wake(12)], nowWallMs), 30 * minuteMs);
  t.equal(spanOf([wake(31)], nowWallMs), 60 * minuteMs);
  t.equal(spanOf([wake(300), wake(1)], nowWallMs), 10 * minuteMs, 'what is not shown anyway does not matter');
});

t.test('whatever happened, there is a plot of it', async () => {
  const any = fc.record({ agoMinutes: fc.integer({ min: -5, max: 90 }), kind: fc.constantFrom('wake', 'scale', 'sleep', 'fault', 'deploy', 'check'), tookMs: fc.option(fc.double({ min: 0, max: 1e6, noNaN: true })) });
  fc.assert(
    fc.property(fc.array(any, { maxLength: 100 }), fc.integer({ min: 0, max: 5 }), (given, awake) => {
      const events = given.map(({ agoMinutes, kind, tookMs }) => event(agoMinutes, { kind: kind as AppEvent['kind'], tookMs, figures: tookMs === null ? {} : { warm: 1 } }));
      const { lanes, happened } = timelineOf(events, { nowWallMs, spanMs: 60 * minuteMs, sites: [{ ...site, awake }] });
      const steps = lanes[0]?.awake ?? [];
      return happened.length <= 50 && steps.at(-1)?.count === awake && steps.every(({ wallMs, count }, index) => count >= 0 && wallMs <= nowWallMs && wallMs >= (steps[index - 1]?.wallMs ?? -Infinity));
    }),
  );
});
