import fc from 'fast-check';
import t from 'tap';
import { planDisk, type DiskTemplate, type DiskView } from '../../edgepoint/exchange/plan-disk.ts';

const mebibyte = 1024 * 1024;
const second = 1_000_000_000;

function template(app: string, about: Partial<DiskTemplate> = {}): DiskTemplate {
  return { app, release: 1, bytes: 10 * mebibyte, stored: true, serves: true, used: false, idleNs: 60 * second, ...about };
}
const view = (templates: readonly DiskTemplate[], about: Partial<DiskView> = {}): DiskView => ({ templates, bytesMax: 25 * mebibyte, freeBytes: 1e12, spareBytes: 1e9, ...about });

const [one, two, three] = [template('one', { idleNs: 300 * second }), template('two', { idleNs: 20 * second }), template('three', { idleNs: null })];

const rows: readonly { title: string; view: DiskView; leave: readonly string[]; says?: RegExp }[] = [
  { title: 'room for all', view: view([one, two]), leave: [] },
  { title: 'what has not been used for longest leaves', view: view([two, one, three]), leave: ['three'], says: /three: templates take 30\.0 MiB of the disk, and 25\.0 MiB is what they may; it has not been used lately/ },
  { title: 'then what was used before others', view: view([two, one, template('four', { idleNs: 1 })]), leave: ['one'], says: /it has not been used for 5 min 0 s/ },
  { title: 'what is superseded leaves first', view: view([one, two, template('two', { release: 0, serves: false, idleNs: 1 })]), leave: ['two'], says: /a newer release serves/ },
  { title: 'what is used stays', view: view([template('one', { used: true }), two, template('three', { used: true })]), leave: ['two'] },
  { title: 'what is nowhere else stays', view: view([one, two, three].map((each) => ({ ...each, stored: false }))), leave: [], says: /of what is left 5\.0 MiB more should go, and nothing may/ },
  { title: 'a full disk, by what is free of it', view: view([one, two], { bytesMax: null, freeBytes: 0.9e9 }), leave: ['one', 'two'], says: /only 858\.3 MiB of the disk are free, and 953\.7 MiB should be/ },
  { title: 'no more than is needed', view: view([one, two], { bytesMax: null, freeBytes: 1e9 - mebibyte }), leave: ['one'] },
  { title: 'by default a disk with room keeps everything', view: view([one, two, three], { bytesMax: null }), leave: [] },
];
for (const row of rows) {
  t.test(row.title, async (t) => {
    const plan = planDisk(row.view);
    t.same(plan.leave.map(({ app }) => app), row.leave);
    if (row.says !== undefined) t.match([...plan.leave.map(({ app, reason }) => `${app}: ${reason}`), ...plan.notes].join('\n'), row.says);
  });
}

t.test('what leaves is in the store and unused, is enough or all there is, and none of it is needless', async () => {
  const any = fc.record({ bytes: fc.integer({ min: 1, max: 20 * mebibyte }), stored: fc.boolean(), serves: fc.boolean(), used: fc.boolean(), idleNs: fc.option(fc.nat(1e9)) });
  fc.assert(
    fc.property(fc.array(any, { maxLength: 12 }), (all) => {
      const templates = all.map((about, index) => template(`app-${index}`, about));
      const { leave } = planDisk(view(templates));
      const gone = new Set(leave.map(({ app }) => app));
      const sum = (some: readonly DiskTemplate[]): number => some.reduce((bytes, each) => bytes + each.bytes, 0);
      const left = templates.filter(({ app }) => !gone.has(app));
      const last = templates.find(({ app }) => app === leave.at(-1)?.app);
      const may = (each: DiskTemplate): boolean => each.stored && !each.used;
      return (
        templates.filter(({ app }) => gone.has(app)).every(may) &&
        (sum(left) <= 25 * mebibyte || !left.some(may)) &&
        (last === undefined || sum(left) + last.bytes > 25 * mebibyte)
      );
    }),
  );
});
