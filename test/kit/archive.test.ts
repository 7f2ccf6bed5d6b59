import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync, linkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { archiveLimits, judgeEntry, judgeSize, openJudgement } from '../../kit/archive.ts';
import type { ArchiveEntry, ArchiveLimits, EntryKind } from '../../kit/archive.ts';

const file = (path: string, bytes = 1): ArchiveEntry => ({ path, kind: 'file', kindName: 'File', bytes, target: '' });
const folder = (path: string): ArchiveEntry => ({ path, kind: 'directory', kindName: 'Directory', bytes: 0, target: '' });
const link = (path: string, target: string): ArchiveEntry => ({ path, kind: 'symlink', kindName: 'SymbolicLink', bytes: 0, target });
const hard = (path: string, target: string): ArchiveEntry => ({ path, kind: 'hardlink', kindName: 'Link', bytes: 0, target });
const other = (path: string, kindName: string): ArchiveEntry => ({ path, kind: 'other', kindName, bytes: 0, target: '' });

/** `ok`, or the code of the first refusal. */
function judgeAll(entries: readonly ArchiveEntry[], limits: ArchiveLimits = archiveLimits, packedBytes = 1000): string {
  const judgement = openJudgement(limits);
  for (const entry of entries) {
    const verdict = judgeEntry(judgement, entry, packedBytes);
    if (!verdict.ok) return verdict.code;
  }
  return 'ok';
}

const small: ArchiveLimits = { entriesMax: 3, unpackedBytesMax: 1000, ratioMax: 10, ratioFromBytes: 100, pathBytesMax: 40, depthMax: 4 };

const rows: readonly (readonly [label: string, expected: string, entries: readonly ArchiveEntry[], limits?: ArchiveLimits, packedBytes?: number])[] = [
  ['plain files and folders', 'ok', [folder('a'), file('a/b'), file('c')]],
  ['a leading ./ and a trailing / mean nothing', 'ok', [folder('./'), folder('./a/'), file('./a/b')]],
  ['a file before its folder', 'ok', [file('a/b'), folder('a')]],
  ['a folder named twice', 'ok', [folder('a'), folder('a')]],
  ['a link to a neighbour', 'ok', [file('a/b'), link('a/c', 'b'), link('a/d', './b')]],
  ['a link up and down again, as in node_modules/.bin', 'ok', [link('node_modules/.bin/x', '../x/bin.js')]],
  ['a link to the folder itself', 'ok', [link('a/b', '..')]],
  ['a link to nothing that is there', 'ok', [link('a', 'missing')]],
  ['a hard link to an earlier file', 'ok', [file('a'), hard('b', './a')]],
  ['a name with odd but plain letters', 'ok', [file('a b/..c/...'), file('ü')]],
  ['an absolute path', 'archive-path', [file('/etc/passwd')]],
  ['../', 'archive-path', [file('../x')]],
  ['a/../../x', 'archive-path', [file('a/../../x')]],
  ['a/../b is refused although it stays inside', 'archive-path', [file('a/../b')]],
  ['a zero byte', 'archive-path', [file('a\0b')]],
  ['a path that is too long', 'archive-path', [file('a'.repeat(200).concat('/').repeat(6))]],
  ['a name that is too long', 'archive-path', [file('ü'.repeat(128))]],
  ['folders too deep', 'archive-path', [file('a/'.repeat(65))]],
  ['the folder itself as a file', 'archive-duplicate', [file('.')]],
  ['the folder itself as a link', 'archive-duplicate', [link('./', '/')]],
  ['a file below a file', 'archive-path', [file('a'), file('a/b')]],
  ['a link out', 'archive-link', [link('a', '..')]],
  ['a link out from below', 'archive-link', [link('a/b', '../../etc')]],
  ['an absolute link', 'archive-link', [link('a', '/etc/passwd')]],
  ['a link that goes down and up', 'archive-link', [link('a', 'b/../../..')]],
  ['a link to an empty name', 'archive-link', [link('a', '')]],
  ['a file behind a link', 'archive-link', [link('a', 'b'), file('a/x')]],
  ['a file behind a link that was a folder', 'archive-duplicate', [folder('a'), link('a', 'b')]],
  ['a folder that replaces a link', 'archive-duplicate', [link('a', 'b'), folder('a')]],
  ['a file twice', 'archive-duplicate', [file('a'), file('./a')]],
  ['a hard link to what is not there', 'archive-link', [hard('a', 'b')]],
  ['a hard link out', 'archive-link', [hard('a', '../b')]],
  ['an absolute hard link', 'archive-link', [hard('a', '/etc/shadow')]],
  ['a hard link to a link', 'archive-link', [link('l', 'x'), hard('a', 'l')]],
  ['a hard link through a link', 'archive-link', [folder('d'), file('d/f'), link('l', 'd'), hard('a', 'l/f')]],
  ['a character device', 'archive-device', [other('null', 'character device')]],
  ['a fifo', 'archive-device', [other('pipe', 'fifo')]],
  ['too many entries', 'archive-too-many-entries', [file('a'), file('b'), file('c'), file('d')], small],
  ['too big', 'archive-too-big', [file('a', 600), file('b', 600)], small],
  ['a bomb', 'archive-bomb', [file('a', 900)], small, 10],
  ['well packed but small', 'ok', [file('a', 100)], small, 1],
];

for (const [label, expected, entries, limits, packedBytes] of rows) {
  t.test(label, async (t) => {
    t.equal(judgeAll(entries, limits, packedBytes), expected);
  });
}

t.test('every row has a label of its own', async (t) => {
  t.equal(new Set(rows.map(([label]) => label)).size, rows.length);
});

t.test('size alone, while a big entry is being read', async (t) => {
  t.equal(judgeSize(small, 1000, 100), null);
  t.equal(judgeSize(small, 1001, 1000)?.code, 'archive-too-big');
  t.equal(judgeSize(small, 999, 1)?.code, 'archive-bomb');
});

/** The dumb twin: what a careless unpacker does. Returns what it was asked to write; stops at what the system refuses. */
function unpackCarelessly(room: string, entries: readonly ArchiveEntry[]): void {
  const tree = join(room, 'tree');
  for (const entry of entries) {
    const place = `${tree}/${entry.path}`;
    try {
      if (entry.kind === 'directory') mkdirSync(place, { recursive: true });
      else {
        mkdirSync(dirname(place), { recursive: true });
        if (entry.kind === 'file') writeFileSync(place, 'inside');
        else if (entry.kind === 'symlink') symlinkSync(entry.target, place);
        else linkSync(`${tree}/${entry.target}`, place);
      }
    } catch {
      // A system that says no has done no harm; the next entry may still do some.
    }
  }
}

/** Everything below the tree must be in the tree, also through links; nothing outside may have changed. */
function harmIn(room: string): string | null {
  const outside = readdirSync(room).filter((name) => name !== 'tree');
  if (outside.join() !== 'secret') return `outside there is now ${outside.join()}`;
  if (readdirSync(join(room, 'secret')).join() !== 'file') return 'something was written into the neighbour';
  const tree = realpathSync(join(room, 'tree'));
  const visit = (path: string): string | null => {
    for (const name of readdirSync(path)) {
      const place = join(path, name);
      const found = lstatSync(place);
      if (found.isSymbolicLink() && existsSync(place)) {
        const real = realpathSync(place);
        if (real !== tree && !real.startsWith(`${tree}/`)) return `${place} leads to ${real}`;
      }
      if (found.isFile() && found.nlink > 1 && lstatSync(join(room, 'secret/file')).ino === found.ino) return `${place} is the neighbour's file`;
      const inner = found.isDirectory() ? visit(place) : null;
      if (inner) return inner;
    }
    return null;
  };
  return visit(tree);
}

const plain = fc.constantFrom('a', 'a', 'b', 'c', 'a/b', 'a/c', './b');
const odd = fc.array(fc.constantFrom('a', 'b', '..', '.', 'secret', 'file'), { minLength: 1, maxLength: 4 }).map((words) => words.join('/'));
const target = fc.oneof(plain, odd, fc.constantFrom('..', '../secret', '../../secret', '../secret/file', 'a/../..', '/etc/hostname'));
const entry: fc.Arbitrary<ArchiveEntry> = fc
  .tuple(fc.constantFrom<EntryKind>('file', 'directory', 'symlink', 'symlink', 'hardlink'), fc.oneof({ weight: 5, arbitrary: plain }, { weight: 1, arbitrary: odd }), target)
  .map(([kind, path, to]) => ({ path, kind, kindName: kind, bytes: kind === 'file' ? 6 : 0, target: kind === 'symlink' || kind === 'hardlink' ? to : '' }));

t.test('what the judge lets through does no harm even to a careless unpacker, in any order', async (t) => {
  const runs = process.env['LONG'] ? 20_000 : 500;
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  let harmless = 0;
  let refusedHarm = 0;
  const rooms = mkdtempSync(join(tmpdir(), 'edgepoint-archive-'));
  t.teardown(() => rmSync(rooms, { recursive: true, force: true }));
  // Deep enough that no chain of links climbs out of the test's own folder.
  const deep = join(rooms, 'deep/'.repeat(40));
  let count = 0;
  fc.assert(
    fc.property(fc.array(entry, { minLength: 1, maxLength: 7 }), (entries) => {
      const room = join(deep, String((count += 1)));
      mkdirSync(join(room, 'tree'), { recursive: true });
      mkdirSync(join(room, 'secret'));
      writeFileSync(join(room, 'secret/file'), 'untouched');
      // What is let through of any list: the entries before the first refusal.
      const judgement = openJudgement();
      const passed: ArchiveEntry[] = [];
      for (const one of entries) {
        if (!judgeEntry(judgement, one, 1000).ok) break;
        passed.push(one);
      }
      unpackCarelessly(room, passed);
      const harm = harmIn(room);
      if (harm) throw new Error(harm);
      harmless += passed.length;
      if (passed.length < entries.length) {
        unpackCarelessly(room, entries);
        if (harmIn(room)) refusedHarm += 1;
      }
      rmSync(room, { recursive: true, force: true });
    }),
    { numRuns: runs, seed },
  );
  t.comment(`seed ${seed}: ${harmless} entries let through, ${refusedHarm} lists would have done harm`);
  t.ok(harmless > runs / 10, 'enough is let through to mean something');
  t.ok(refusedHarm > runs / 200, 'the generator makes real harm');
});

t.test('the twin itself sees harm', async (t) => {
  const room = mkdtempSync(join(tmpdir(), 'edgepoint-twin-'));
  t.teardown(() => rmSync(room, { recursive: true, force: true }));
  mkdirSync(join(room, 'tree'));
  mkdirSync(join(room, 'secret'));
  writeFileSync(join(room, 'secret/file'), '');
  t.equal(harmIn(room), null);
  unpackCarelessly(room, [link('a', '../secret'), file('a/x')]);
  t.match(harmIn(room), /neighbour/);
  execFileSync('rm', [join(room, 'secret/x')]);
  t.match(harmIn(room), /leads to/);
});
