import t from 'tap';
import { parseZramSwap, zramRoomBytes } from '../../host/zram.ts';
import { chooseAlgorithm } from '../../images/host/zram.ts';

/* /proc/swaps and mm_stat as Linux 6.18 writes them. */
const head = 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n';
const zram1 = '/dev/zram1                              partition\t12342044\t1024\t\t100\n';
const file = '/var/swap                               file\t\t8388604\t\t0\t\t-2\n';
const stat = '    4096       64    20480 6319128576 17494016        0        0        0        0\n';

t.test('swap on zram is told from other swap', async (t) => {
  t.equal(parseZramSwap(head, () => stat), null);
  t.equal(parseZramSwap(head + file, () => stat), null);
  t.strictSame(parseZramSwap(head + file + zram1, (device) => (device === 'zram1' ? stat : '')), {
    device: 'zram1', sizeBytes: 12342044 * 1024, usedBytes: 1024 * 1024, heldBytes: 20480, heldBytesMax: 6319128576,
  });
  t.equal(parseZramSwap(`${head}${zram1}${zram1.replace('zram1', 'zram7').replace('1024', '12')}`, () => stat)?.device, 'zram7', 'the one with the most room');
});

t.test('its room is what it may take and what it may hold, whichever is less', async (t) => {
  const swap = { device: 'zram1', sizeBytes: 100, usedBytes: 20, heldBytes: 10, heldBytesMax: 0 };
  t.equal(zramRoomBytes(swap), 80);
  t.equal(zramRoomBytes({ ...swap, heldBytesMax: 30 }), 40, 'twice what it may still hold');
  t.equal(zramRoomBytes({ ...swap, heldBytesMax: 10 }), 0);
  t.equal(zramRoomBytes({ ...swap, heldBytes: 50, heldBytesMax: 30 }), 0);
  t.equal(zramRoomBytes({ ...swap, heldBytesMax: 30 }, 5), 30, 'less what others hold of that');
});

t.test('the algorithm that reads back fastest is chosen, of those the kernel has', async (t) => {
  t.equal(chooseAlgorithm('[lzo-rle] lzo lz4 '), 'lz4');
  t.equal(chooseAlgorithm('lzo [lzo-rle] zstd'), 'lzo-rle');
  t.equal(chooseAlgorithm('[zstd] 842'), '');
});
