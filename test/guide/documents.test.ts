import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { conduitSettings } from '../../conduit/config.ts';
import { meanings } from '../../conduit/manifest/meanings.ts';
import { referenceRows, referenceText } from '../../conduit/manifest/reference.ts';
import { manifestBytesMax } from '../../conduit/manifest/read.ts';
import { keptReleases } from '../../conduit/rollback.ts';
import { offerings } from '../../edgepoint/model/offering.ts';
import { archiveLimits } from '../../kit/archive.ts';
import { checksPerProviderMax } from '../../kit/wire/check.ts';
import { runCommand } from '../world/faults/fault-world.ts';
import { bunPath } from '../world/held-world.ts';
import { blocksOf } from './page.ts';

const repository = join(import.meta.dirname, '../..');
const guide = join(repository, 'docs/guide');
const page = (name: string): string => readFileSync(join(guide, name), 'utf8');
/** Where an operator says nothing. */
const defaults = conduitSettings.schema.parse({});
/** Operators' commands are about machines; their page has a test of its own. */
const pages = readdirSync(guide).filter((name) => name.endsWith('.md') && name !== 'operators.md');

t.test('the reference of the manifest is what the schema says', async (t) => {
  const paths = referenceRows().map(({ path }) => path);
  t.same(paths.filter((path) => meanings[path] === undefined), [], 'each key has a meaning (conduit/manifest/meanings.ts)');
  t.same(Object.keys(meanings).filter((path) => !paths.includes(path)), [], 'each meaning has a key');
  t.equal(page('manifest.md'), referenceText(), '`npm run docs:manifest` writes it');
});

t.test('figures of the limits are those of the code', async (t) => {
  const text = page('limits.md');
  const count = (value: number): string => value.toLocaleString('en');
  const mebibytes = (bytes: number): string => `${bytes / 1024 / 1024} MiB`;
  const rows = [
    ...offerings.map(
      ({ name, cpuMillis, memoryBytes, diskBytes, pidsMax, networkBytesPerSecond, diskOperationsPerSecond }) =>
        `| \`${name}\` | ${cpuMillis / 1000} | ${mebibytes(memoryBytes)} | ${mebibytes(diskBytes)} | ${count(pidsMax)} | ${networkBytesPerSecond / 125_000_000} Gbit/s | ${count(diskOperationsPerSecond)} |`,
    ),
    `| an artefact, packed, unless the operator says otherwise | ${mebibytes(defaults.uploadBytesMax)} |`,
    `| unpacked | ${archiveLimits.unpackedBytesMax / 1024 ** 3} GiB |`,
    `| unpacked, of what is more than ${mebibytes(archiveLimits.ratioFromBytes)} | ${archiveLimits.ratioMax} times its size |`,
    `| files, folders and links | ${count(archiveLimits.entriesMax)} |`,
    `| a path | ${count(archiveLimits.pathBytesMax)} bytes, ${archiveLimits.depthMax} folders deep |`,
    `| the manifest | ${manifestBytesMax / 1024} KiB |`,
    `| uploads under way at once, of all providers | ${defaults.uploadsMax}; the next waits ten seconds |`,
    `| checks of a provider under way at once | ${checksPerProviderMax} |`,
    `| newest releases that are kept, to be gone back to | ${keptReleases} |`,
    `| domains of a provider | ${defaults.domainsPerProvider} |`,
  ];
  for (const row of rows) t.ok(text.split('\n').includes(row), row);
  const figures = text.split('\n').filter((line) => /^\| .*\d/.test(line));
  t.same(figures.filter((line) => !rows.includes(line)), [], 'no row is looked at by nobody');
});

t.test('each message of the troubleshooting stands in the code', async (t) => {
  const sources = ['conduit', 'edgepoint', 'kit'].flatMap((part) => readdirSync(join(repository, part), { recursive: true, encoding: 'utf8' }).flatMap((name) => (/\.tsx?$/.test(name) ? [readFileSync(join(repository, part, name), 'utf8')] : [])));
  const messages = page('troubleshooting.md').split('\n').flatMap((line) => /^\| `([^`]+)` \|/.exec(line)?.[1] ?? []);
  t.ok(messages.length > 15, `${messages.length} messages`);
  for (const message of messages) {
    // All of its parts in one string of the code, in order; what stands between is filled in there.
    const parts = message.split('…').map((part) => part.trim().replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    const pattern = new RegExp(parts.join('[^\\n]*'));
    t.ok(sources.some((source) => pattern.test(source)), message);
  }
});

t.test('what a page has a reader type is in a block that is run, and names what there is', async (t) => {
  const { stdout } = await runCommand([bunPath, join(repository, 'conduit/cli/main.ts'), '--help']);
  const known = new Set([...stdout.matchAll(/^ {2}([a-z]+)/gm)].flatMap(([, word = '']) => [word]));
  t.ok(known.has('deploy') && known.has('secrets'), 'the help lists the commands');
  for (const name of pages) {
    const text = page(name);
    for (const { info, line, lines } of blocksOf(text)) {
      if (info === 'console') continue;
      t.same(lines.filter((each) => /^(\$ )?(conduit|npm|curl) /.test(each)), [], `${name}:${line} is no block for commands`);
    }
    for (const [span, word = ''] of text.matchAll(/`conduit ([a-z]+)[^`]*`/g)) t.ok(known.has(word), `${name}: ${span}`);
  }
});
