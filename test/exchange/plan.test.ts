import fc from 'fast-check';
import t from 'tap';
import { planStore, type Storable, type Stored, type StorePlan } from '../../edgepoint/exchange/plan.ts';

const mebibyte = 1024 * 1024;
const limits = { bytesMax: 100 * mebibyte, providerBytesMax: 40 * mebibyte };

function template(app: string, release: number, about: Partial<Storable> = {}): Storable {
  const [provider = ''] = app.split('.');
  return { app, provider, release, name: `${app}-${release}`, bytes: 10 * mebibyte, serves: true, sites: [], offDisk: false, ...about };
}

const stored = (of: Storable, about: Partial<Stored> = {}): Stored => ({ app: of.app, release: of.release, name: of.name, bytes: of.bytes, sites: of.sites, whole: true, ...about });

/** As `put name`, in order. */
const said = ({ steps }: StorePlan): string[] => steps.map((step) => `${step.kind} ${step.kind === 'remove' ? step.stored.name : step.template.name}`);

const shop = template('ann.main.shop', 2);
const shopBefore = template('ann.main.shop', 1, { serves: false });

const rows: readonly { title: string; templates: readonly Storable[]; stored: readonly Stored[]; says: readonly string[]; notes?: RegExp }[] = [
  { title: 'nothing there, nothing to do', templates: [], stored: [], says: [] },
  { title: 'what is new is put, what serves first', templates: [shopBefore, shop], stored: [], says: ['put ann.main.shop-2', 'put ann.main.shop-1'] },
  { title: 'what is there stays', templates: [shop], stored: [stored(shop)], says: [] },
  { title: 'what was cut off is put again', templates: [shop], stored: [stored(shop, { whole: false })], says: ['put ann.main.shop-2'] },
  { title: 'what nobody wants goes, before anything is put', templates: [shop], stored: [stored(shopBefore)], says: ['remove ann.main.shop-1', 'put ann.main.shop-2'] },
  { title: 'a half one that nobody wants goes too', templates: [], stored: [stored(shop, { whole: false })], says: ['remove ann.main.shop-2'] },
  { title: 'others host it: it is offered anew', templates: [{ ...shop, sites: ['z.b'] }], stored: [stored(shop)], says: ['offer ann.main.shop-2'] },
  { title: 'the same in another order is the same', templates: [{ ...shop, sites: ['z.b', 'z.c'] }], stored: [stored(shop, { sites: ['z.c', 'z.b'] })], says: [] },
  {
    title: 'what does not fit into its provider’s part is left out, and no other suffers',
    templates: [template('ann.main.big', 1, { bytes: 50 * mebibyte }), template('bob.main.shop', 1)],
    stored: [],
    says: ['put bob.main.shop-1'],
    notes: /ann\.main\.big.*release 1 \(50\.0 MiB\) does not fit into its provider's part of 40\.0 MiB/,
  },
  {
    title: 'a superseded one makes room for one that serves',
    templates: [shopBefore, shop, template('ann.main.news', 1, { bytes: 25 * mebibyte })],
    stored: [stored(shopBefore), stored(shop)],
    says: ['remove ann.main.shop-1', 'put ann.main.news-1'],
    notes: /shop.*release 1/,
  },
  {
    title: 'the whole is bounded, whosever it is',
    templates: ['ann', 'bob', 'cat', 'dan'].map((provider) => template(`${provider}.main.shop`, 1, { bytes: 30 * mebibyte })),
    stored: [],
    says: ['put ann.main.shop-1', 'put bob.main.shop-1', 'put cat.main.shop-1'],
    notes: /dan.*does not fit into the 100\.0 MiB there are/,
  },
];

for (const row of rows) {
  t.test(row.title, async (t) => {
    const plan = planStore(row.templates, row.stored, limits);
    t.same(said(plan), row.says);
    if (row.notes !== undefined) t.match(plan.notes.join('\n'), row.notes);
    else t.same(plan.notes, []);
  });
}

t.test('carried out, a plan leaves nothing to do, no more than the limits, and nothing that nobody has', async () => {
  const name = fc.constantFrom('ann.main.a', 'ann.main.b', 'bob.main.a', 'cat.main.a');
  const any = fc.record({ app: name, release: fc.integer({ min: 1, max: 3 }), bytes: fc.integer({ min: 1, max: 60 * mebibyte }), serves: fc.boolean(), sites: fc.subarray(['z.b', 'z.c']) });
  const some = fc.uniqueArray(any, { selector: ({ app, release }) => `${app}-${release}` }).map((all) => all.map((one) => template(one.app, one.release, { ...one, name: `${one.app}-${one.release}-${one.bytes}` })));
  fc.assert(
    fc.property(some, some, fc.boolean(), (templates, earlier, whole) => {
      const before = earlier.map((one) => stored(one, { whole }));
      const after = new Map(before.map((one) => [one.name, one]));
      for (const step of planStore(templates, before, limits).steps) {
        if (step.kind === 'remove') after.delete(step.stored.name);
        else after.set(step.template.name, stored(step.template));
      }
      const left = [...after.values()];
      const sum = (all: readonly Stored[]): number => all.reduce((bytes, one) => bytes + one.bytes, 0);
      const bounded = sum(left) <= limits.bytesMax && ['ann', 'bob', 'cat'].every((provider) => sum(left.filter((one) => one.app.startsWith(provider))) <= limits.providerBytesMax);
      return bounded && left.every((one) => templates.some((template) => template.name === one.name)) && planStore(templates, left, limits).steps.length === 0;
    }),
  );
});
