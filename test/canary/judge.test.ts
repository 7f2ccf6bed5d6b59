import t from 'tap';
import { judgeCanary } from '../../edgepoint/canary/judge.ts';
import { CanaryWatch } from '../../edgepoint/canary/watch.ts';
import type { ReleaseOrder } from '../../edgepoint/model/app.ts';
import { canaryOf } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';

const counts = (failed: number, answered: number) => ({ failed, answered });

t.test('whether a canary is stopped', async (t) => {
  const rows = [
    ['nothing yet', counts(0, 0), counts(0, 0), false, /^too few/],
    ['all of a few', counts(19, 19), counts(0, 200), false, /^too few/],
    ['few of the least number', counts(4, 20), counts(0, 200), false, /^too few/],
    ['enough of the least number', counts(5, 20), counts(0, 180), true, /^5 of 20 \(25\.0 %\) failed; of the release that serves, 0 of 180 \(0\.0 %\)$/],
    ['all, and nothing to compare with', counts(20, 20), counts(0, 0), true, /^20 of 20/],
    ['a small part', counts(40, 1000), counts(0, 9000), false, /^less than 5 %/],
    ['just the part that counts', counts(50, 1000), counts(0, 9000), true, /^50 of 1000/],
    ['both alike: it is not its fault', counts(30, 100), counts(270, 900), false, /^it is not clearly worse/],
    ['both fail wholly', counts(100, 100), counts(900, 900), false, /^it is not clearly worse/],
    ['a little worse, by few', counts(6, 30), counts(27, 270), false, /^it is not clearly worse/],
    ['a little worse, by many', counts(200, 1000), counts(900, 9000), true, /^200 of 1000/],
    ['better', counts(10, 100), counts(450, 900), false, /^it is not clearly worse/],
    ['the other has answered once, and failed', counts(20, 20), counts(1, 1), false, /^it is not clearly worse/],
  ] as const;
  for (const [story, canary, serving, stop, reason] of rows) {
    const verdict = judgeCanary({ canary, serving });
    t.equal(verdict.stop, stop, `${story}: ${verdict.reason}`);
    t.match(verdict.reason, reason);
  }
});

const shop: Owner = { provider: 'ann', scope: 'main', app: 'shop' };
const order = (owner: Owner, deployId: string): ReleaseOrder => ({
  owner,
  deployId,
  release: 2,
  artefactDigest: '',
  manifest: manifestSchema.parse({ app: 'shop', command: ['node'], port: 1 }),
  hosts: [],
  uidSlot: 1,
});

/** A watch whose clock the test moves, and what it has stopped. */
function open() {
  const at = { seconds: 0 };
  const stopped: string[] = [];
  const watch = new CanaryWatch({ bootNs: () => at.seconds * 1e9, stop: ({ scope }, reason) => void stopped.push(`${scope}: ${reason}`) });
  const tell = (scope: 'main' | 'canary', failed: number, answered: number, epoch = 'one'): void =>
    watch.note({ owner: { ...shop, scope }, waiting: 0, instances: [], epoch, answers: counts(failed, answered), traffic: [] });
  return { at, stopped, watch, tell };
}

t.test('only what came since it serves is counted, of both', async (t) => {
  const { stopped, watch, tell } = open();
  tell('canary', 900, 900);
  watch.serves(order(shop, 'd1'));
  watch.serves(order(canaryOf(shop), 'd2'));
  tell('main', 500, 1000);
  tell('canary', 1000, 1000);
  t.same(stopped, [], 'what was told first is where it begins');
  tell('main', 500, 1100);
  tell('canary', 1000, 1030);
  t.same(stopped, []);
  tell('canary', 1019, 1049);
  t.same(stopped, ['canary: 19 of 49 (38.8 %) failed; of the release that serves, 0 of 100 (0.0 %)']);
  tell('canary', 1100, 1200);
  t.equal(stopped.length, 1, 'once');
  watch.serves(order(canaryOf(shop), 'd3'));
  tell('main', 500, 1200);
  tell('canary', 1100, 1200);
  tell('canary', 1100, 1300);
  t.equal(stopped.length, 1, 'for another deploy it begins again');
});

t.test('another dispatcher counts from nothing, and an app whose canary is gone is not judged', async (t) => {
  const { stopped, watch, tell } = open();
  watch.serves(order(canaryOf(shop), 'd1'));
  for (const epoch of ['one', 'two']) {
    tell('main', 0, 100, epoch);
    tell('canary', 0, 0, epoch);
    tell('canary', 4, 100, epoch);
  }
  t.same(stopped, []);
  watch.removed(canaryOf(shop));
  tell('canary', 100, 200, 'two');
  t.same(stopped, []);
});

t.test('a canary that was good for long is stopped soon after it has turned bad', async (t) => {
  const { at, stopped, watch, tell } = open();
  watch.serves(order(canaryOf(shop), 'd1'));
  let answered = 0;
  let failed = 0;
  const second = (bad: boolean): void => {
    at.seconds += 1;
    answered += 10;
    if (bad) failed += 10;
    tell('main', 0, answered * 9);
    tell('canary', failed, answered);
  };
  for (let count = 0; count < 3600; count += 1) second(false);
  const from = at.seconds;
  while (stopped.length === 0 && at.seconds < from + 60) second(true);
  // 5 % of the two minutes at most that are looked at.
  t.ok(at.seconds - from <= 8, `after ${at.seconds - from} s`);
});

t.test('one with few requests is judged by all of them, however long they take', async (t) => {
  const { at, stopped, watch, tell } = open();
  watch.serves(order(canaryOf(shop), 'd1'));
  tell('main', 0, 0);
  tell('canary', 0, 0);
  for (let count = 1; count <= 20; count += 1) {
    at.seconds += 300;
    tell('main', 0, count * 9);
    t.same(stopped, [], `${count - 1} answers`);
    tell('canary', count, count);
  }
  t.equal(stopped.length, 1);
});
