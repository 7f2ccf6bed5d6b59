import fc from 'fast-check';
import t from 'tap';
import { readFrozenMs } from '../../edgepoint/box/criu-stats.ts';

/* A `stats-dump` as CRIU 4.2.1 wrote it: frozen_time is 29968 us, in the bytes 10 90 ea 01. */
const image = Buffer.from('4059105506330957250000000a2308f0031090ea0118b16420cb4328f610300038b2104000480050085808600068007000', 'hex');

t.test('a real image', async (t) => {
  t.equal(readFrozenMs(image), 29.968);
});

t.test('images of another shape say 0 or some number, and never throw or hang', async (t) => {
  t.equal(readFrozenMs(new Uint8Array()), 0);
  t.equal(readFrozenMs(image.subarray(0, 12)), 0, 'no entry');
  t.equal(readFrozenMs(Buffer.concat([image.subarray(0, 12), Buffer.from('1202080a', 'hex')])), 0, 'restore statistics are not of a dump');
  for (let length = 0; length < image.length; length += 1) t.ok(readFrozenMs(image.subarray(0, length)) >= 0, `cut at ${length}`);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => Number.isFinite(readFrozenMs(bytes)) && readFrozenMs(bytes) >= 0));
});
