import { execFileSync } from 'node:child_process';
import t from 'tap';

const freedBytes = 50_000 * 2000;

function residentAfter(how: 'gives' | 'keeps', deadlineMs: number): number {
  const text = execFileSync('node_modules/.bin/bun', ['test/host/give-back-peer.ts', how, `${deadlineMs}`], { encoding: 'utf8' });
  const { before, after } = JSON.parse(text) as { before: number; after: number };
  return before - after;
}

t.test('a daemon that waits gives back what native libraries have freed', (t) => {
  t.ok(residentAfter('gives', 30_000) >= freedBytes / 2, 'most of it is gone');
  t.ok(residentAfter('keeps', 5000) < freedBytes / 2, 'of itself the allocator keeps it');
  t.end();
});
