import fc from 'fast-check';
import t from 'tap';
import { bytesField, imageEntries, imageOf, numberField, readFields, writeFields } from '../../edgepoint/box/criu-image.ts';
import { mendFilesImage, mendTimerfd, type Timerfd } from '../../edgepoint/box/timers.ts';

/*
 * A `files.img` as CRIU 4.2.1 wrote it for a program with three timers: one of 20 ms that has expired 14 times unread, one for a moment
 * an hour away, and one for in an hour. Among them are the descriptors every instance has.
 */
const image = Buffer.from(
  '19435654383130564a000000080110011a440801100018002a0a0800100018002000280032072f6170702f7466388a0640e0c42e50ed830258fca1c1b80f58aa9f' +
    'd6e80158f7f1ddad0f58dc98edea0758f4bb82f10f2b000000080110021a2508021080800218002a0a0800100018002000280032092f6465762f6e756c6c388c06' +
    '50b64333000000080110031a2d08031081880218002a0a0800100018002000280032102f7661722f6c6f672f6170702e6c6f67388a0650b0830227000000081110' +
    '046221080410021a0a080010001800200028002001280130003800400048005080dac40929000000081110056223080510021a0a08001000180020002800200028' +
    '003001388f1c4084adbca7024800500029000000081110066223080610021a0a08001000180020002800200128003000388f1c409df0baa7024800500025000000' +
    '080110071a1f0807100018002a0a0800100018002000280032042f617070388a0650ed830122000000080110081a1c0808100018002a0a08001000180020002800' +
    '32012f388a0650ed8301',
  'hex',
);

t.test('which timers are mended', async (t) => {
  const plain: Timerfd = { ticks: 0, settimeFlags: 0, leftSeconds: 0, leftNs: 0, intervalSeconds: 0, intervalNs: 0 };
  const rows: readonly [string, Partial<Timerfd>, Partial<Timerfd> | null][] = [
    ['never set', {}, null],
    ['for a duration, under way', { leftSeconds: 5 }, null],
    ['once, expired, unread', { ticks: 1 }, null],
    ['repeating, under way', { leftNs: 5, intervalNs: 9 }, null],
    ['repeating, expired before but under way again', { ticks: 2, leftNs: 5, intervalNs: 9 }, null],
    ['stopped, though its interval is set', { intervalSeconds: 1 }, null],
    ['repeating, expired, unread', { ticks: 1, intervalNs: 9 }, { leftNs: 1 }],
    ['the same, of whole seconds', { ticks: 7, intervalSeconds: 9 }, { leftNs: 1 }],
    ['for a moment', { settimeFlags: 1, leftSeconds: 5, leftNs: 3 }, { settimeFlags: 0 }],
    ['for a moment, then repeating, expired, unread', { settimeFlags: 1, ticks: 1, intervalNs: 9 }, { settimeFlags: 0, leftNs: 1 }],
    ['for a moment, ended when the clock is set', { settimeFlags: 3, leftSeconds: 5 }, null],
  ];
  for (const [what, timer, change] of rows) {
    const before = { ...plain, ...timer };
    t.same(mendTimerfd(before), change && { ...before, ...change }, what);
  }
});

t.test('a real image', async (t) => {
  const mended = mendFilesImage(image) as Uint8Array;
  const changes = imageEntries(mended).flatMap((message, index) => {
    const before = imageEntries(image)[index] as Uint8Array;
    return Buffer.compare(message, before) === 0 ? [] : [[index, Buffer.from(before).toString('hex'), Buffer.from(message).toString('hex')]];
  });
  t.same(
    changes,
    [
      [3, '081110046221080410021a0a080010001800200028002001280130003800400048005080dac409', '081110046221080410021a0a080010001800200028002001280130003800400148005080dac409'],
      [4, '081110056223080510021a0a08001000180020002800200028003001388f1c4084adbca70248005000', '081110056223080510021a0a08001000180020002800200028003000388f1c4084adbca70248005000'],
    ],
    'the expired one has 1 ns left, the one for a moment is for a duration; nothing else has changed',
  );
  t.equal(mended.length, image.length);
  t.equal(mendFilesImage(mended), null, 'mended once');
});

t.test('what was read is written as it was', async (t) => {
  t.same(Buffer.from(imageOf(image, imageEntries(image))), image);
  const field = fc.oneof(
    fc.tuple(fc.integer({ min: 1, max: 500 }), fc.maxSafeNat()).map(([number, value]) => numberField(number, value)),
    fc.tuple(fc.integer({ min: 1, max: 500 }), fc.uint8Array({ maxLength: 300 })).map(([number, bytes]) => bytesField(number, bytes)),
  );
  fc.assert(
    fc.property(fc.array(field), (fields) => {
      const read = readFields(writeFields(fields));
      t.same(
        read.map(({ number, value, bytes }) => [number, value, bytes && Buffer.from(bytes).toString('hex')]),
        fields.map(({ number, value, bytes }) => [number, value, bytes && Buffer.from(bytes).toString('hex')]),
      );
    }),
    { numRuns: 100 },
  );
  /* A negative number has ten bytes, more than a number of JavaScript's holds. */
  const negative = Buffer.from('08ffffffffffffffffff01', 'hex');
  t.same(Buffer.from(writeFields(readFields(negative))), negative);
});
