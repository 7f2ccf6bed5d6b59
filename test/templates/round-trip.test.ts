import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { ownFolder } from './ports.ts';

const bun = fileURLToPath(new URL('../../node_modules/.bin/bun', import.meta.url));
const script = fileURLToPath(new URL('./odd-tree.ts', import.meta.url));

function run(...argv: string[]): string {
  const [program = '', ...rest] = argv;
  const done = spawnSync(program, rest, { encoding: 'latin1' });
  if (done.status !== 0) throw new Error(`${argv.join(' ')}: ${done.stderr}`);
  return done.stdout;
}

/** Type, permissions, owners, time, blocks, links and target of everything, as find(1) sees it; the time of a folder, too. */
const looks = (folder: string): string[] => run('find', folder, '-printf', '%P | %y %m %U:%G %T@ %s %n %l\n').split('\n').toSorted();

t.test('whatever a private disk holds comes back as it was: owners, modes, times, links, whiteouts, attributes, holes', async (t) => {
  const folder = ownFolder(t);
  const [before = '', after = '', rest = '{}'] = run(bun, script, folder).split('\n');
  const { sealedBytes } = JSON.parse(rest) as { sealedBytes: number };

  for (const part of ['disk', 'images']) t.same(looks(join(folder, 'after', part)).map(ofPart), looks(join(folder, 'before', part)).map(ofPart), part);
  t.match(before, /trusted\.overlay\.opaque","79"/, 'an opaque folder');
  t.match(before, /security\.capability/);
  t.equal(after, before, 'extended attributes');
  t.match(run('stat', '--format', '%F %t:%T', join(folder, 'after/disk/removed')), /character special file 0:0/, 'a whiteout');
  t.equal(run('stat', '--format', '%i', join(folder, 'after/disk/var/tool')), run('stat', '--format', '%i', join(folder, 'after/disk/var/deep/same tool')), 'two names of one file');
  const pages = 'images/pages-1.img';
  t.ok(readFileSync(join(folder, 'after', pages)).equals(readFileSync(join(folder, 'before', pages))), 'contents');
  const holes = statSync(join(folder, 'after/disk/var/deep/holes'));
  t.equal(holes.size, 2 ** 40);
  t.ok(holes.blocks * 512 < 64 * 1024, `a file of 1 TiB takes ${holes.blocks * 512} bytes again`);
  t.match(run('dd', `if=${join(folder, 'after/disk/var/deep/holes')}`, 'bs=1M', 'skip=8', 'count=1', 'status=none'), /^in the middle\0/);
  t.ok(sealedBytes < 4 * 2 ** 20, `${sealedBytes} bytes at rest`);
  t.equal(statSync(join(folder, 'sealed')).mode & 0o777, 0o400, 'which nobody writes again');
});

/** How large a folder is says how it came to be, not what is in it. */
function ofPart(line: string): string {
  return line.replace(/(\| d \d+ \S+ \S+) \d+/, '$1');
}
