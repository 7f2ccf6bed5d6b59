import t from 'tap';
import { recipeHash, whyMake } from '../../images/host/step.ts';
import { parseJournal } from '../../world/journal.ts';
import type { JournalEntry } from '../../world/journal.ts';
import { freshRestartState, planRestart } from '../../world/restart.ts';
import { surprises } from '../../world/surprises.ts';

const world: JournalEntry = { made: 'world', id: 'k3f9', supervisor: { pid: 12, startTicks: 34 }, bootId: 'b', ranges: [], dataFolder: '/data', keepData: true };

t.test('a journal that a kill cut off is read as far as it goes', async (t) => {
  const lines = [world, { made: 'netns', name: 'ep-k3f9-paris' }].map((entry) => JSON.stringify(entry));
  const text = `${lines.join('\n')}\n`;
  for (let length = 0; length <= text.length; length += 1) {
    const journal = parseJournal(text.slice(0, length));
    const whole = text.slice(0, length).split('\n').filter((line) => lines.includes(line)).length;
    t.equal(journal.entries.length, whole, `${length} characters`);
    t.equal(journal.world === null, whole === 0);
  }
});

t.test('restarts: the first within 50 ms, then ever slower up to 2 s, and quick again after a sound run', async (t) => {
  let state = freshRestartState;
  const pauses: number[] = [];
  for (let end = 0; end < 7; end += 1) {
    const plan = planRestart(state, 100);
    pauses.push(plan.pauseMs);
    state = plan.state;
  }
  t.ok((pauses[0] ?? 99) <= 50);
  t.same(pauses, pauses.toSorted((one, other) => one - other));
  t.equal(pauses.at(-1), 2000);
  t.ok(planRestart(state, 60_000).pauseMs <= 50);
});

t.test('only what a daemon should have removed itself is called left', async (t) => {
  const journal = { world: null, entries: [{ made: 'netns', name: 'ep-k3f9-paris' }, { made: 'mount', path: '/run/edgepoint/k3f9/repository' }] as JournalEntry[] };
  const removed = ['netns ep-k3f9-paris', 'mount /run/edgepoint/k3f9/repository', 'cgroup /sys/fs/cgroup/x', 'instance-process 7 (node)', 'loop /dev/loop0', 'process 8 (bun)', 'nft-table inet edgepoint-k3f9'];
  t.same(surprises(removed, journal), ['loop /dev/loop0', 'process 8 (bun)', 'nft-table inet edgepoint-k3f9']);
});

t.test('when a step of the set-up is done again', async (t) => {
  const hash = recipeHash('this way');
  const stamp = { recipeHash: hash, made: 'so' };
  const rows: [Parameters<typeof whyMake>[0], RegExp | null][] = [
    [{ stamp, hash, missing: null, takeOver: false }, null],
    [{ stamp, hash, missing: 'not there', takeOver: false }, /not there/],
    [{ stamp, hash: recipeHash('another way'), missing: null, takeOver: true }, /recipe has changed/],
    [{ stamp: null, hash, missing: null, takeOver: true }, null],
    [{ stamp: null, hash, missing: null, takeOver: false }, /nothing says/],
  ];
  for (const [state, wanted] of rows) {
    const why = whyMake(state);
    if (wanted === null) t.equal(why, null);
    else t.match(why, wanted);
  }
});
