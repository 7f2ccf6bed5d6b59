import fc from 'fast-check';
import t from 'tap';
import { NameTable } from '../../global-dispatcher/zone.ts';
import { identity } from './fixtures.ts';

const entry = (app: string, hosts: string[]): Parameters<NameTable['set']>[0] => ({ provider: 'p', scope: 'main', app, hosts, sites: ['eu.ber'] });

t.test('what is no name below the apex is refused by name, and the rest is served', async (t) => {
  const table = new NameTable(identity);
  const refused = table.set(entry('shop', ['Shop.Edge.Test.', 'example.com', 'edge.test', 'ns1.edge.test', 'a..edge.test', '-a.edge.test', 'ledge.test', `${'a'.repeat(64)}.edge.test`, '*.edge.test']));
  t.strictSame(refused, ['example.com', 'edge.test', 'ns1.edge.test', 'a..edge.test', '-a.edge.test', 'ledge.test', `${'a'.repeat(64)}.edge.test`, '*.edge.test']);
  t.equal(table.lookUp('shop.edge.test').kind, 'app');
});

t.test('of two who claim a name the smaller owner has it, whoever came first, and the other when it goes', async (t) => {
  for (const order of [['a', 'b'], ['b', 'a']]) {
    const table = new NameTable(identity);
    for (const app of order) table.set(entry(app, ['shop.edge.test']));
    const holder = (): string => {
      const found = table.lookUp('shop.edge.test');
      return found.kind === 'app' ? found.entry.app : found.kind;
    };
    t.equal(holder(), 'a');
    table.delete('p.main.a');
    t.equal(holder(), 'b');
    table.delete('p.main.b');
    t.equal(holder(), 'absent');
  }
});

t.test('after any changes the table is as one built afresh from what is left', async () => {
  const host = fc.constantFrom('a.edge.test', 'b.edge.test', 'x.a.edge.test', 'y.x.a.edge.test', 'z.q.edge.test', 'bad', 'A.edge.test');
  const change = fc.record({ app: fc.constantFrom('one', 'two', 'three'), hosts: fc.option(fc.array(host, { maxLength: 4 })) });
  const asked = ['a', 'b', 'x.a', 'y.x.a', 'q', 'z.q', 'nope'].map((name) => `${name}.edge.test`);
  fc.assert(
    fc.property(fc.array(change, { maxLength: 12 }), (changes) => {
      const table = new NameTable(identity);
      const left = new Map<string, string[]>();
      for (const { app, hosts } of changes) {
        if (hosts === null) {
          table.delete(`p.main.${app}`);
          left.delete(app);
        } else {
          table.set(entry(app, hosts));
          left.set(app, hosts);
        }
      }
      const fresh = new NameTable(identity);
      for (const [app, hosts] of left) fresh.set(entry(app, hosts));
      return asked.every((name) => JSON.stringify(table.lookUp(name)) === JSON.stringify(fresh.lookUp(name)));
    }),
    { seed: Date.now() & 0x7fffffff, numRuns: 1000 },
  );
});
