import fc from 'fast-check';
import t from 'tap';
import { type Credit, fullCredit, limitsOf, nextCredit } from '../../edgepoint/restored/processor-credit.ts';

const ms = 1e6;
const small = limitsOf({ cpuMillis: 1000, processors: 2 });

/** What each look made of it, as `second:mode`, where the mode changed. `using`: processors, for so many seconds, one after the other. */
function story(limits: typeof small, using: readonly (readonly [processors: number, seconds: number])[], lookMs = 200): string[] {
  let credit: Credit = fullCredit(limits, { cpuNs: 0, bootNs: 0 });
  const changes: string[] = [];
  for (const [processors, seconds] of using) {
    for (let look = 0; look < (seconds * 1000) / lookMs; look += 1) {
      const after = nextCredit(credit, limits, { cpuNs: credit.cpuNs + processors * lookMs * ms, bootNs: credit.bootNs + lookMs * ms }).credit;
      if (after.mode !== credit.mode) changes.push(`${(after.bootNs / 1e9).toFixed(1)}:${after.mode}`);
      credit = after;
    }
  }
  return changes;
}

t.test('what may be used for good is a quarter of the offering, or of the machine where that is less', async (t) => {
  t.same(small, { share: 0.25, mostNs: 0.5e9 });
  t.same(limitsOf({ cpuMillis: 4000, processors: 2 }), { share: 0.5, mostNs: 1e9 });
  t.same(limitsOf({ cpuMillis: 4000, processors: 64 }), { share: 1, mostNs: 2e9 });
});

t.test('who goes behind, and when it comes back', async (t) => {
  const rows: readonly [string, Parameters<typeof story>[1], string[]][] = [
    ['one that answers a request now and then', [[0.1, 60]], []],
    ['one that uses what is free for good', [[0.25, 60]], []],
    ['a burst of half a second', [[1, 0.6], [0, 5], [1, 0.6]], []],
    ['one that computes all the time', [[1, 30]], ['0.8:behind']],
    ['one that computes on two processors', [[2, 30]], ['0.4:behind']],
    ['one that has finished', [[1, 5], [0, 5]], ['0.8:behind', '6.0:ahead']],
    ['one that gets nothing because others take everything', [[1, 1], [0, 1], [1, 1]], ['0.8:behind', '2.0:ahead', '2.4:behind']],
  ];
  for (const [what, using, changes] of rows) t.same(story(small, using), changes, what);
});

t.test('a reason is given', async (t) => {
  const { credit, reason } = nextCredit(fullCredit(small, { cpuNs: 5e9, bootNs: 1e9 }), small, { cpuNs: 5.8e9, bootNs: 1.8e9 });
  t.equal(credit.mode, 'behind');
  t.equal(reason, 'it used 1.00 processors where 0.25 are free for good, and may use 0.00 of 0.50 s more');
});

t.test('whatever the counters say, the bucket has its bounds, and who keeps below its share is never behind', async (t) => {
  const seed = Date.now();
  t.comment(`seed ${seed}`);
  const looks = fc.array(fc.tuple(fc.integer({ min: -1e9, max: 4e9 }), fc.integer({ min: -1e9, max: 1e9 })), { maxLength: 100 });
  fc.assert(
    fc.property(looks, (steps) => {
      let credit = fullCredit(small, { cpuNs: 0, bootNs: 0 });
      for (const [usedNs, passedNs] of steps) {
        credit = nextCredit(credit, small, { cpuNs: credit.cpuNs + usedNs, bootNs: credit.bootNs + passedNs }).credit;
        if (!(credit.creditNs >= 0 && credit.creditNs <= small.mostNs)) return false;
      }
      return true;
    }),
    { seed },
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 1000 }), fc.double({ min: 0, max: 0.25, noNaN: true })), { maxLength: 100 }), (steps) => {
      let credit = fullCredit(small, { cpuNs: 0, bootNs: 0 });
      for (const [passedMs, share] of steps) {
        credit = nextCredit(credit, small, { cpuNs: credit.cpuNs + Math.floor(passedMs * ms * share), bootNs: credit.bootNs + passedMs * ms }).credit;
        if (credit.mode !== 'ahead') return false;
      }
      return true;
    }),
    { seed },
  );
});
