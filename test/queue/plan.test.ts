import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { backoffMsMax, judgeAttempt, planQueue } from '../../edgepoint/queue/plan.ts';
import type { MessageView } from '../../edgepoint/queue/plan.ts';

const nowWallMs = 1_700_000_000_000;
const message = (id: string, more: Partial<MessageView> = {}): MessageView => ({ id, sentWallMs: nowWallMs - 1000, notBeforeWallMs: 0, state: 'waits', ...more });

t.test('which messages of a queue are delivered now', async (t) => {
  const later = (ms: number) => ({ notBeforeWallMs: nowWallMs + ms });
  const rows: readonly (readonly [label: string, messages: readonly MessageView[], about: { concurrency?: number; room?: number }, deliver: readonly string[], again: number | null])[] = [
    ['nothing waits', [], {}, [], null],
    ['one at a time, in the order in which they were sent', [message('b', { sentWallMs: 2 }), message('a', { sentWallMs: 1 })], {}, ['a'], null],
    ['at one time: by their ids', [message('b'), message('a')], { concurrency: 2 }, ['a', 'b'], null],
    ['one is under way', [message('a', { state: 'under way' }), message('b')], {}, [], null],
    ['one is under way and two may be', [message('a', { state: 'under way' }), message('b'), message('c')], { concurrency: 2 }, ['b'], null],
    ['taken and dead ones are not delivered', [message('a', { state: 'taken' }), message('b', { state: 'dead' })], {}, [], null],
    ['one that failed waits, and holds back no other', [message('a', later(5000)), message('b')], {}, ['b'], nowWallMs + 5000],
    ['the next to look at', [message('a', later(5000)), message('b', later(3000))], {}, [], nowWallMs + 3000],
    ['its pause is over', [message('a', later(0))], {}, ['a'], null],
    ['the clock was set back', [message('a', later(backoffMsMax + 1))], {}, ['a'], null],
    ['its provider has enough under way', [message('a'), message('b')], { concurrency: 8, room: 1 }, ['a'], null],
    ['far too much', [message('a')], { concurrency: 8, room: -1 }, [], null],
  ];
  for (const [label, messages, { concurrency = 1, room = 16 }, deliver, lookAgainWallMs] of rows) t.same(planQueue(messages, { concurrency, room, nowWallMs }), { deliver, lookAgainWallMs }, label);
});

t.test('never more than allowed at once', async () => {
  const some = fc.array(fc.record({ state: fc.constantFrom('waits' as const, 'under way' as const, 'taken' as const, 'dead' as const), waitsMs: fc.integer({ min: -1000, max: 1000 }) }));
  fc.assert(
    fc.property(some, fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 6 }), (list, concurrency, room) => {
      const messages = list.map(({ state, waitsMs }, index) => message(`m${index}`, { state, notBeforeWallMs: nowWallMs + waitsMs }));
      const underWay = list.filter(({ state }) => state === 'under way').length;
      const due = list.filter(({ state, waitsMs }) => state === 'waits' && waitsMs <= 0).length;
      const { deliver } = planQueue(messages, { concurrency, room, nowWallMs });
      assert.equal(deliver.length, Math.max(0, Math.min(due, concurrency - underWay, room)));
    }),
  );
});

t.test('what becomes of a message after an attempt', async (t) => {
  const about = { attempts: 1, attemptsMax: 5, backoffSeconds: 2, nowWallMs };
  t.same(judgeAttempt({ status: 200, reason: '' }, about), { kind: 'taken' });
  t.same(judgeAttempt({ status: 204, reason: '' }, about), { kind: 'taken' });
  t.same(judgeAttempt({ status: 500, reason: '' }, about), { kind: 'again', notBeforeWallMs: nowWallMs + 2000, reason: 'it answered 500' });
  t.match(judgeAttempt({ status: 302, reason: '' }, about), { kind: 'again' }, 'sent elsewhere is not taken');
  t.match(judgeAttempt({ status: 200, reason: 'the answer broke off' }, about), { kind: 'again', reason: '200: the answer broke off' });
  t.match(judgeAttempt({ status: 0, reason: 'gone' }, about), { kind: 'again', reason: 'no answer: gone' });
  t.match(judgeAttempt({ status: 500, reason: '' }, { ...about, attempts: 3 }), { notBeforeWallMs: nowWallMs + 50_000 });
  t.match(judgeAttempt({ status: 500, reason: '' }, { ...about, attempts: 19, attemptsMax: 20 }), { notBeforeWallMs: nowWallMs + backoffMsMax });
  t.same(judgeAttempt({ status: 500, reason: '' }, { ...about, attempts: 5 }), { kind: 'dead', reason: 'it answered 500' });
  t.same(judgeAttempt({ status: 200, reason: '' }, { ...about, attempts: 5 }), { kind: 'taken' });
});
