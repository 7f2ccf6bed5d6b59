import fc from 'fast-check';
import t from 'tap';
import { PackedTexts } from '../../host/packed-texts.ts';

t.test('a text comes back as it was, whatever came first', (t) => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.string({ unit: 'grapheme' }), fc.json()), { minLength: 1, maxLength: 20 }), (texts) => {
      const kept = new PackedTexts();
      const packed = texts.map((text) => kept.pack(text));
      t.strictSame(packed.map((one) => kept.unpack(one)), texts);
    }),
  );
  t.end();
});

t.test('a text longer than what it may look back on comes back too', (t) => {
  const kept = new PackedTexts();
  const texts = ['first', 'x'.repeat(100_000), Array.from({ length: 20_000 }, (_, number) => number * 7919).join(), ''];
  const packed = texts.map((text) => kept.pack(text));
  t.strictSame(packed.map((one) => kept.unpack(one)), texts);
  t.end();
});

t.test('texts that are alike take little more than what differs', (t) => {
  const kept = new PackedTexts();
  const text = (name: string, digest: string): string => JSON.stringify({ app: name, digest, command: ['node', 'server.js'], env: { NODE_ENV: 'production' }, scale: { min: 0, max: 6 }, hosts: [`${name}.edge.test`] });
  kept.pack(text('one', '0123456789abcdef0123456789abcdef'));
  const other = text('another', 'f7fedfd3b2023384e986142945e2d263');
  t.ok(kept.pack(other).length < other.length / 2, `${kept.pack(other).length} of ${other.length}`);
  t.throws(() => new PackedTexts().unpack(kept.pack(other)), { message: /broken invariant/ });
  t.end();
});
