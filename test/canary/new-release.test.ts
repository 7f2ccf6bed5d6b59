import t from 'tap';
import { NewReleaseWatch, leavesNothing, provesItselfNs, watchedNsMax } from '../../edgepoint/canary/new-release.ts';
import type { ReleaseOrder } from '../../edgepoint/model/app.ts';
import { canaryOf } from '../../kit/ids.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';

const shop = { provider: 'ann', scope: 'main', app: 'shop' };
const order = (release: number, more: Record<string, unknown> = {}, deployId = `d${release}`): ReleaseOrder => ({
  owner: shop,
  deployId,
  release,
  artefactDigest: '',
  manifest: manifestSchema.parse({ app: 'shop', command: ['node'], port: 1, ...more }),
  hosts: [],
  uidSlot: 1,
});

/** A watch whose clock the test moves, and what it has taken back. */
function open() {
  const at = { ns: 0 };
  const taken: string[] = [];
  const watch = new NewReleaseWatch({ bootNs: () => at.ns, stop: ({ release }, reason) => void taken.push(`${release}: ${reason}`) });
  const tell = (failed: number, answered: number, epoch = 'one'): void => watch.note({ owner: shop, waiting: 0, instances: [], epoch, answers: { failed, answered }, traffic: [] });
  return { at, taken, watch, tell };
}

t.test('a release that fails at once is taken back, compared with the one before', async (t) => {
  const { taken, watch, tell } = open();
  watch.wanted(order(2), 1);
  tell(0, 1000);
  tell(1, 1100);
  watch.serves(order(2));
  tell(5, 1104);
  t.same(taken, [], 'too few to judge by');
  tell(11, 1120);
  t.same(taken, ['2: 10 of 20 (50.0 %) failed; of the release before, 1 of 100 (1.0 %)']);
  tell(500, 2000);
  t.equal(taken.length, 1, 'once');
});

t.test('what failed before as well is not its fault', async (t) => {
  const { taken, watch, tell } = open();
  watch.wanted(order(2), 1);
  tell(0, 0);
  tell(50, 100);
  watch.serves(order(2));
  tell(150, 300);
  t.same(taken, []);
});

t.test('where little was asked during the deploy, what the dispatcher has counted before stands for the release before', async (t) => {
  const { taken, watch, tell } = open();
  watch.wanted(order(2), 1);
  tell(500, 1000);
  tell(500, 1001);
  watch.serves(order(2));
  tell(530, 1061);
  t.same(taken, [], 'half failed, as before');
  const idle = open();
  idle.watch.wanted(order(2), 1);
  idle.watch.serves(order(2));
  idle.tell(0, 40);
  idle.tell(20, 60);
  t.same(idle.taken, ['2: 20 of 20 (100.0 %) failed; of the release before, 0 of 40 (0.0 %)'], 'told first when it serves');
});

t.test('who is not watched', async (t) => {
  const rows: readonly (readonly [label: string, order: ReleaseOrder, serving: number | null])[] = [
    ['the first release', order(1), null],
    ['a way back', order(1), 2],
    ['the release that serves', order(2), 2],
    ['one whose manifest says so', order(2, { takeBack: false }), 1],
    ['one that keeps its state', order(2, { state: 'keep' }), 1],
    ['one with a volume', order(2, { volume: [{ name: 'data', path: '/data' }] }), 1],
    ['a canary, which is watched otherwise', { ...order(2), owner: canaryOf(shop) }, 1],
  ];
  for (const [label, wanted, serving] of rows) {
    const { taken, watch, tell } = open();
    watch.wanted(wanted, serving);
    tell(0, 0);
    watch.serves(wanted);
    tell(100, 100);
    t.same(taken, [], label);
  }
  t.ok(leavesNothing(order(1).manifest));
});

t.test('only the first moments are watched', async (t) => {
  const { at, taken, watch, tell } = open();
  const begin = (): void => {
    watch.wanted(order(2, {}, `d${at.ns}`), 1);
    tell(0, 0);
    watch.serves(order(2, {}, `d${at.ns}`));
  };
  begin();
  at.ns += provesItselfNs;
  tell(0, 20);
  tell(100, 120);
  t.same(taken, [], 'it has proved itself');
  begin();
  at.ns += provesItselfNs;
  tell(100, 138);
  tell(119, 139);
  t.equal(taken.length, 1, 'one that was asked little is watched longer');
  begin();
  at.ns += watchedNsMax + 1;
  tell(300, 400);
  t.equal(taken.length, 1, 'but not for ever');
});

t.test('another dispatcher counts from nothing, and a newer deploy takes the place of one', async (t) => {
  const { taken, watch, tell } = open();
  watch.wanted(order(2), 1);
  tell(0, 100);
  watch.serves(order(2));
  tell(0, 110);
  tell(0, 0, 'two');
  tell(4, 19, 'two');
  t.same(taken, []);
  tell(20, 40, 'two');
  t.match(taken, ['2: 20 of 40 (50.0 %) failed; of the release before, 0 of 100 (0.0 %)']);
  const other = open();
  other.watch.wanted(order(2), 1);
  other.tell(0, 0);
  other.watch.wanted(order(3), 1);
  other.watch.serves(order(2));
  other.tell(50, 50);
  t.same(other.taken, [], 'it is wanted no longer');
  other.watch.removed(shop);
  other.watch.serves(order(3));
  other.tell(500, 500);
  t.same(other.taken, []);
});
