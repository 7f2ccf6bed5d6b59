import { dlopen } from 'bun:ffi';
import { giveBackWhenQuiet } from '../../host/give-back.ts';

/**
 * Makes what a burst of work leaves behind in a native library: much memory, freed but for its last piece, so that the allocator
 * keeps it. Prints resident bytes then, and again when they have fallen or after a while.
 */
const { malloc, free, memset } = dlopen('libc.so.6', {
  malloc: { args: ['u64'], returns: 'ptr' },
  free: { args: ['ptr'], returns: 'void' },
  memset: { args: ['ptr', 'i32', 'u64'], returns: 'ptr' },
}).symbols;
const pieceBytes = 2000;
const pieces = Array.from({ length: 50_000 }, () => malloc(pieceBytes));
for (const piece of pieces) memset(piece, 1, pieceBytes);
for (const piece of pieces.slice(0, -1)) free(piece);
// Work enough that giving back is worth it.
const workUntilMs = process.cpuUsage().user / 1000 + 500;
while (process.cpuUsage().user / 1000 < workUntilMs);
const before = process.memoryUsage.rss();
if (process.argv[2] === 'gives') giveBackWhenQuiet();
const endMs = performance.now() + Number(process.argv[3]);
while (performance.now() < endMs && process.memoryUsage.rss() > before - (pieces.length * pieceBytes) / 2) await Bun.sleep(100);
console.log(JSON.stringify({ before, after: process.memoryUsage.rss() }));
process.exit(0);
