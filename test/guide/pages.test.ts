import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openCertifiedWorld } from '../certificates/certified-world.ts';
import { stepsOf } from './page.ts';
import { settleReader } from './reader.ts';

t.setTimeout(600_000); // some ten deploys, on whatever machine

/** In the order in which they are read: each begins where the one before has ended, but for what `begin` does first. */
const pages: readonly { readonly file: string; readonly begin?: string }[] = [
  { file: 'README.md' },
  { file: 'docs/guide/providers.md' },
  { file: 'docs/guide/troubleshooting.md', begin: 'conduit deploy' },
  { file: 'docs/guide/configuration.md' },
];

t.test('every command of the guide does what its page says', { timeout: 600_000 }, async (t) => {
  const { world, root } = await openCertifiedWorld(t, ['--conduit-address', '0.0.0.0']);
  const token = await world.held.call<string>('newProvider', { name: 'ada' });
  const reader = await settleReader(t, world, 'reader', { folderName: 'hello', root });
  for (const { file, begin } of pages) {
    t.comment(file);
    if (begin !== undefined) await reader.follow(t, [{ kind: 'command', line: 0, command: begin, exitCode: 0, output: [] }]);
    const text = readFileSync(join(import.meta.dirname, '../..', file), 'utf8');
    await reader.follow(t, stepsOf(text, { 'http://CONDUIT': reader.conduitUrl, TOKEN: token }));
  }
  await world.allHealthy();
});
