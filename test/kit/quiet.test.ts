import t from 'tap';
import { shouldGiveBack } from '../../kit/quiet.ts';

t.test('memory is given back when a burst of work is over, and only then', (t) => {
  const rows = [
    { about: 'nothing was done since the last time', busyMs: 0, passedMs: 2000, sinceGivenMs: 0, gives: false },
    { about: 'a wake was handled since then', busyMs: 0, passedMs: 2000, sinceGivenMs: 40, gives: false },
    { about: 'a burst is over', busyMs: 3, passedMs: 2000, sinceGivenMs: 4000, gives: true },
    { about: 'a burst is under way', busyMs: 1500, passedMs: 2000, sinceGivenMs: 4000, gives: false },
    { about: 'little was done, but it took memory', busyMs: 3, passedMs: 2000, sinceGivenMs: 80, grownBytes: 5_000_000, gives: true },
    { about: 'it takes memory just now', busyMs: 1500, passedMs: 2000, sinceGivenMs: 80, grownBytes: 5_000_000, gives: false },
    { about: 'it takes too much, just now or not', busyMs: 1500, passedMs: 2000, sinceGivenMs: 80, grownBytes: 70_000_000, gives: true },
    { about: 'a steady load with its garbage', busyMs: 1500, passedMs: 2000, sinceGivenMs: 60_000, grownBytes: 33_000_000, gives: false },
    { about: 'a little more is no reason', busyMs: 3, passedMs: 2000, sinceGivenMs: 80, grownBytes: 2_000_000, gives: false },
    { about: 'a steady load', busyMs: 150, passedMs: 2000, sinceGivenMs: 60_000, gives: false },
    { about: 'it is over for a while', busyMs: 3, passedMs: 2000, sinceGivenMs: 10, onceMore: true, gives: true },
    { about: 'another burst is under way', busyMs: 1500, passedMs: 2000, sinceGivenMs: 1500, onceMore: true, gives: false },
    { about: 'just enough was done, little enough now', busyMs: 99, passedMs: 2000, sinceGivenMs: 300, gives: true },
  ];
  for (const { about, gives, ...work } of rows) t.equal(shouldGiveBack({ onceMore: false, grownBytes: 0, ...work }), gives, about);
  t.end();
});
