import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ownGenerator } from '../../edgepoint/box/own-generators.ts';
import { tools } from '../../host/tools.ts';

t.test('a generator that is compiled into a program is known by its text, wherever that lies', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'own-generators-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const mark = 'could not initialize thread_rng';
  /* A file is read in pieces of a megabyte: the text may lie across two of them. */
  for (const offset of [0, 5_000, (1 << 20) - mark.length, (1 << 20) - mark.length + 1, (1 << 20) - 1, 1 << 20, (1 << 21) - 7]) {
    const path = join(folder, `at-${offset}`);
    writeFileSync(path, Buffer.concat([Buffer.alloc(offset, 7), Buffer.from(mark), Buffer.alloc(100)]));
    t.equal(ownGenerator(path), 'thread_rng of Rust', `at ${offset}`);
  }
  const path = join(folder, 'changed');
  writeFileSync(path, Buffer.from(mark.slice(1)));
  t.equal(ownGenerator(path), null, 'a part of it is not it');
  writeFileSync(path, Buffer.from(`${mark}!`));
  t.equal(ownGenerator(path), 'thread_rng of Rust', 'a file that changed is read again');
  writeFileSync(path, '');
  t.equal(ownGenerator(path), null, 'nor an empty one');
});

t.test('real programs', async (t) => {
  const program = (name: string): string => join(tools.runtimesRoot, 'usr/local/bin', name);
  t.equal(ownGenerator(program('rust-server')), null);
  t.equal(ownGenerator(program('rust-server-own')), 'thread_rng of Rust');
  t.equal(ownGenerator(program('go-server')), 'math/rand of Go');
  for (const name of ['node', 'node24', 'node26', 'bun']) t.equal(ownGenerator(program(name)), null, name);
});
