import t from 'tap';
import { isTooEarly, learnHot, rangeBytes } from '../../edgepoint/restored/hot-ranges.ts';

const mebibyte = 2 ** 20;

t.test('what the first answers needed stays, while it is little and they are given', async (t) => {
  const table = [
    { name: 'little', megabytes: 6, of: 100, grown: 0, wanted: 'stays' },
    { name: 'nothing', megabytes: 0, of: 100, grown: 0, wanted: 'stays' },
    { name: 'as much as 12 MiB', megabytes: 12, of: 20, grown: 0, wanted: 'stays' },
    { name: 'more than 12 MiB and an eighth', megabytes: 13, of: 100, grown: 0, wanted: 'is-too-much' },
    { name: 'an eighth of much', megabytes: 25, of: 200, grown: 0, wanted: 'stays' },
    { name: 'more than an eighth of much', megabytes: 26, of: 200, grown: 0, wanted: 'is-too-much' },
    { name: 'a little more meanwhile', megabytes: 6, of: 100, grown: 1, wanted: 'stays' },
    { name: 'ever more', megabytes: 6, of: 100, grown: 2, wanted: 'is-at-work' },
    { name: 'ever more of much', megabytes: 13, of: 100, grown: 20, wanted: 'is-too-much' },
    { name: 'a second look, and a little more', megabytes: 6, of: 100, grown: 0, learnt: 5, wanted: 'stays' },
    { name: 'a second look, and much more: what the first one found holds', megabytes: 8, of: 100, grown: 0, learnt: 6, wanted: 'is-at-work' },
    { name: 'a second look, and more than may stay', megabytes: 90, of: 100, grown: 0, learnt: 6, wanted: 'is-at-work' },
    { name: 'less, because it gave some back', megabytes: 6, of: 100, grown: -20, wanted: 'stays' },
  ] as const;
  for (const { name, megabytes, of, grown, wanted, ...second } of table) {
    const ranges = megabytes === 0 ? '' : `1f 7f0000000000 ${(0x7f0000000000 + (megabytes - 0.5) * mebibyte).toString(16)}\n20 1000 ${(0x1000 + 0.5 * mebibyte).toString(16)}\n`;
    t.equal(rangeBytes(ranges), megabytes * mebibyte);
    const learntBytes = 'learnt' in second ? second.learnt * mebibyte : null;
    t.equal(learnHot({ ranges, memoryBytes: of * mebibyte, grownBytes: grown * mebibyte, learntBytes }), wanted, name);
  }
});

t.test('the first look waits for the question and for the answer, but not for ever', async (t) => {
  const table = [
    { name: 'nothing was asked yet', grownBytes: 0, runs: false, waits: 0, wanted: true },
    { name: 'it is being answered', grownBytes: 4 * mebibyte, runs: true, waits: 0, wanted: true },
    { name: 'it was answered', grownBytes: 4 * mebibyte, runs: false, waits: 0, wanted: false },
    { name: 'it gave more back than it needed', grownBytes: -mebibyte, runs: false, waits: 3, wanted: true },
    { name: 'it never rests', grownBytes: 4 * mebibyte, runs: true, waits: 20, wanted: false },
    { name: 'it needs nothing', grownBytes: 0, runs: false, waits: 20, wanted: false },
  ];
  for (const { name, wanted, ...look } of table) t.equal(isTooEarly(look), wanted, name);
});
