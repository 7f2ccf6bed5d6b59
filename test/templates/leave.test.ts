import fc from 'fast-check';
import t from 'tap';
import { chooseLeaving, type HotPart } from '../../edgepoint/templates/leave.ts';

/** The slow obvious version: while it is too much, the one of all that may leave whose use is longest ago leaves. */
function leavingByLooking(parts: readonly HotPart[], about: { bytesMax: number; wantedBytes: number }): string[] {
  const left = [...parts];
  const leaving: string[] = [];
  const bytes = (): number => left.reduce((sum, part) => sum + part.bytes, about.wantedBytes);
  while (bytes() > about.bytesMax) {
    let oldest: HotPart | null = null;
    for (const part of left) if (!part.held && (oldest === null || part.lastUse < oldest.lastUse)) oldest = part;
    if (oldest === null) break;
    leaving.push(oldest.key);
    left.splice(left.indexOf(oldest), 1);
  }
  return leaving;
}

const parts = fc
  .array(fc.record({ bytes: fc.nat(100), held: fc.boolean(), lastUse: fc.nat(1000) }), { maxLength: 12 })
  .map((list) => list.map((part, index): HotPart => ({ ...part, key: `${index}`, lastUse: part.lastUse * 100 + index })));

t.test('the least recently used leave, none that is held, and no more than must', async () => {
  fc.assert(
    fc.property(parts, fc.nat(500), fc.nat(200), (list, bytesMax, wantedBytes) => {
      t.same(chooseLeaving(list, { bytesMax, wantedBytes }), leavingByLooking(list, { bytesMax, wantedBytes }));
    }),
  );
});

t.test('told by example', async (t) => {
  const part = (key: string, lastUse: number, held = false): HotPart => ({ key, bytes: 10, lastUse, held });
  const list = [part('a', 3), part('b', 1), part('c', 2, true), part('d', 4)];
  t.same(chooseLeaving(list, { bytesMax: 40, wantedBytes: 0 }), []);
  t.same(chooseLeaving(list, { bytesMax: 40, wantedBytes: 5 }), ['b']);
  t.same(chooseLeaving(list, { bytesMax: 40, wantedBytes: 15 }), ['b', 'a'], 'not the one that is held, though it is older');
  t.same(chooseLeaving(list, { bytesMax: 0, wantedBytes: 0 }), ['b', 'a', 'd'], 'what is held stays, even when it is too much');
});
