import { stringify } from 'smol-toml';
import fc from 'fast-check';
import t from 'tap';
import { locateKeys } from '../../conduit/manifest/locate.ts';
import { readManifest } from '../../conduit/manifest/read.ts';
import { nearestWord, wordDistance } from '../../kit/nearest-word.ts';

const right = 'app = "hello"\ncommand = ["node"]\nport = 80\n';

/** What is refused, and the whole of what the provider reads. */
const refusals: readonly (readonly [label: string, text: string, said: readonly string[]])[] = [
  ['an unknown key', 'app = "hello"\ncomand = ["node"]\ncommand = ["node"]\nport = 80\n', ['edgepoint.toml:2: unknown key `comand`; did you mean `command`?']],
  ['a mistyped key that leaves the right one missing', 'app = "hello"\nport = 80\n\ncomand = ["node"]\n', [
    'edgepoint.toml: `command` is missing, as in `command = ["node", "server.js"]`',
    'edgepoint.toml:4: unknown key `comand`; did you mean `command`?',
  ]],
  ['an unknown key that is like none', `${right}[probe]\nxyzzy = 1\n`, ['edgepoint.toml:5: unknown key `probe.xyzzy`; the keys here are `path`, `timeoutSeconds`']],
  ['an unknown key in a list of tables', `${right}[[volume]]\nname = "a"\npath = "/a"\n[[volume]]\nname = "b"\npath = "/b"\nsharable = true\n`, [
    'edgepoint.toml:10: unknown key `volume[1].sharable`; did you mean `shareable`?',
  ]],
  ['an unknown key in an inline table', `${right}scale = { min = 1,\n mox = 2 }\n`, ['edgepoint.toml:5: unknown key `scale.mox`; did you mean `max`?']],
  ['a schedule that is none', `${right}[[cron]]\nschedule = "@daily"\npath = "/x"\n`, [
    'edgepoint.toml:5: `cron[0].schedule` is the text "@daily", which does not fit: a schedule has five fields: minute, hour, day of month, month, day of week, as in `schedule = "*/15 * * * *"`',
  ]],
  ['a day that does not come', `${right}[[cron]]\nschedule = "0 0 31 2 *"\npath = "/x"\n`, ['edgepoint.toml:5: `cron[0].schedule` is the text "0 0 31 2 *", which does not fit: there is no such day, as in `schedule = "*/15 * * * *"`']],
  ['two crons that are one', `${right}[[cron]]\nschedule = "0 0 * * *"\npath = "/x"\n[[cron]]\nschedule = "0 0 * * *"\npath = "/x"\n`, ['edgepoint.toml:7: two of `cron` are POST /x at "0 0 * * *"']],
  ['a wrong type', 'app = "hello"\ncommand = ["node"]\nport = "80"\n', ['edgepoint.toml:3: `port` must be a number, not the text "80", as in `port = 3000`']],
  ['a text where a list is wanted', 'app = "hello"\ncommand = "node server.js"\nport = 80\n', [
    'edgepoint.toml:2: `command` must be a list, not the text "node server.js", as in `command = ["node", "server.js"]`',
  ]],
  ['a wrong element', 'app = "hello"\ncommand = [\n  "node",\n  3,\n]\nport = 80\n', ['edgepoint.toml:4: `command[1]` must be a text in quotes, not 3']],
  ['a fraction', `${right.replace('80', '80.5')}`, ['edgepoint.toml:3: `port` must be a whole number, not 80.5, as in `port = 3000`']],
  ['out of bounds', right.replace('80', '70000'), ['edgepoint.toml:3: `port` is 70000, which does not fit: at most 65535, as in `port = 3000`']],
  ['a missing command', 'app = "hello"\nport = 80\n', ['edgepoint.toml: `command` is missing, as in `command = ["node", "server.js"]`']],
  ['an empty command', 'app = "hello"\ncommand = []\nport = 80\n', ['edgepoint.toml:2: `command` is a list, which does not fit: at least 1 elements, as in `command = ["node", "server.js"]`']],
  ['a mistyped value', `${right}state = "keeep"\n`, ['edgepoint.toml:4: `state` must be "template" or "keep", not the text "keeep"; did you mean "keep"?']],
  ['broken TOML', 'app = "hello"\ncommand = ["node"\nport = 80\n', ['edgepoint.toml:3: this is not TOML: ']],
  ['a key said twice', `${right}app = "again"\n`, ['edgepoint.toml:4: this is not TOML: ']],
  ['a bad name', right.replace('hello', 'Hello'), ['edgepoint.toml:1: `app` is the text "Hello", which does not fit: a name is lower-case letters']],
  ['a reserved name', right.replace('hello', 'www'), ['edgepoint.toml:1: `app` cannot be "www": that name belongs to the operator']],
  ['a number as a variable', `${right}[env]\nN = 1\n`, ['edgepoint.toml:5: `env.N` must be a text in quotes, not 1']],
  ['a bad name of a variable', `${right}[env]\n"a b" = "1"\n`, ['edgepoint.toml:5: `env.a b` is no name for a variable']],
  ['PORT against port', `${right}[env]\nPORT = "81"\n`, ['edgepoint.toml:5: `env.PORT` is "81", but PORT is set from `port` (80); leave it out']],
  ['least above most', `${right}[scale]\nmin = 3\nmax = 2\n`, ['edgepoint.toml:5: `scale.min` (3) is above `scale.max` (2)']],
  ['a health check where end users ask', `${right}[health]\npath = "/"\n`, ['edgepoint.toml:5: `health.path` is "/", which end users ask for too: they would be answered "asleep"; name a path of its own, such as /healthz']],
  ['a health check with a query', `${right}[health]\npath = "/up?x"\n`, ['edgepoint.toml:5: `health.path` is the text "/up?x", which does not fit: it may have no spaces, no query and only printable ASCII']],
  ['a volume over the box', `${right}[[volume]]\nname = "a"\npath = "/etc/x"\n`, ['edgepoint.toml:6: a volume cannot lie at "/etc/x": /etc belongs to the box']],
  ['a volume that climbs', `${right}[[volume]]\nname = "a"\npath = "/data/../etc"\n`, ['edgepoint.toml:6: `volume[0].path` is "/data/../etc"; it must be a plain absolute path']],
  ['volumes in one another', `${right}[[volume]]\nname = "a"\npath = "/data"\n[[volume]]\nname = "b"\npath = "/data/b"\n`, ['edgepoint.toml:9: the volumes at "/data" and "/data/b" lie in one another']],
  ['a file in /proc', `${right}[[file]]\npath = "/proc/me"\ntext = ""\n`, ['edgepoint.toml:5: a file cannot lie at "/proc/me": /proc belongs to the box']],
  ['a file that the box writes', `${right}[[file]]\npath = "/etc/hosts"\ntext = ""\n`, ['edgepoint.toml:5: a file cannot lie at "/etc/hosts": /etc/hosts belongs to the box']],
  ['a file that climbs', `${right}[[file]]\npath = "/run/../me"\ntext = ""\n`, ['edgepoint.toml:5: `file[0].path` is "/run/../me"; it must be a plain absolute path such as /run/me.json']],
  ['a file in a volume', `${right}[[volume]]\nname = "a"\npath = "/data"\n[[file]]\npath = "/data/me"\ntext = ""\n`, ['edgepoint.toml:8: a file cannot lie at "/data/me": the volume "a" is there']],
  ['two files in one place', `${right}[[file]]\npath = "/run/a"\ntext = ""\n[[file]]\npath = "/run/a"\ntext = ""\n`, ['edgepoint.toml:8: two files cannot lie at "/run/a" and "/run/a"']],
  ['a file without a text', `${right}[[file]]\npath = "/run/a"\n`, [`edgepoint.toml:4: \`file[0].text\` is missing, as in \`text = '{"me": "{instance}"}'\``]],
  ['a mistyped name in a file', `${right}[[file]]\npath = "/run/a"\ntext = "{adress}"\n`, ['edgepoint.toml:6: `file[0].text` has {adress}, which stands for nothing; did you mean {address}?']],
  ['two processes of one name', `${right}[[process]]\nname = "w"\ncommand = ["x"]\n[[process]]\nname = "w"\ncommand = ["y"]\n`, ['edgepoint.toml:8: two processes have the name "w"']],
  ['a process named as the first', `${right}[[process]]\nname = "app"\ncommand = ["x"]\n`, ['edgepoint.toml:5: a process cannot be named "app": that is the one of `command`']],
  ['a process without a command', `${right}[[process]]\nname = "w"\n`, ['edgepoint.toml:4: `process[0].command` is missing, as in `command = ["node", "worker.js"]`']],
  ['a mistyped key of a process', `${right}[[process]]\nname = "w"\ncommand = ["x"]\nmustlive = false\n`, ['edgepoint.toml:7: unknown key `process[0].mustlive`; did you mean `mustLive`?']],
  ['a zero byte in a process', `${right}[[process]]\nname = "w"\ncommand = ["x\\u0000"]\n`, ['edgepoint.toml:4: `process[0]` has a zero byte in it']],
  ['two volumes of one name', `${right}[[volume]]\nname = "a"\npath = "/x"\n[[volume]]\nname = "a"\npath = "/y"\n`, ['edgepoint.toml:8: two volumes have the name "a"']],
];

for (const [label, text, said] of refusals) {
  t.test(label, async (t) => {
    const read = readManifest(text);
    t.equal(read.ok, false);
    const texts = read.ok ? [] : read.problems.map((problem) => problem.text);
    t.equal(texts.length, said.length, texts.join('\n'));
    said.forEach((expected, index) => t.ok(texts[index]?.startsWith(expected), `${texts[index]}\n${expected}`));
  });
}

t.test('a right one has its defaults', async (t) => {
  const read = readManifest(right);
  t.match(read, { ok: true, manifest: { app: 'hello', state: 'template', offering: 'small', scale: { min: 0, max: 8 }, probe: { path: '/' } } });
});

t.test('braces in a file that are none of ours stay its own affair', async (t) => {
  const text = `{"me":"{instance}","all":{"x":{y}},"t":"{{mustache}} {0} {} {host}"}`;
  t.match(readManifest(`${right}[[file]]\npath = "/run/edgepoint/me.json"\ntext = '''${text}'''\n`), { ok: true, manifest: { file: [{ path: '/run/edgepoint/me.json', text }] } });
});

/** Keys that are each found nowhere else in the text, so that a search for them is the dumb twin of the locator. */
const values: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.string({ unit: fc.constantFrom('a', ' ', '"', "'", '\\', '\n', '#', '[', ']', '{', '}', '=', ',', '.', 'ü') }),
    fc.integer(),
    fc.boolean(),
    fc.array(fc.oneof(fc.string({ unit: fc.constantFrom('x', '"', '#', ']', ',') }), fc.integer()), { maxLength: 3 }),
    fc.array(tie('table'), { maxLength: 3 }),
    tie('table'),
  ),
  table: fc.array(tie('value'), { maxLength: 3 }),
})).table as fc.Arbitrary<unknown>;

/** Gives every table of an arbitrary value keys of its own. */
function named(value: unknown, counter: { next: number }): Record<string, unknown> {
  const table: Record<string, unknown> = {};
  for (const part of Array.isArray(value) ? value : [value]) {
    const key = `key${(counter.next += 1)}${counter.next % 3 === 0 ? ' spaced.' : ''}`;
    table[key] = Array.isArray(part) ? (part.every((inner) => Array.isArray(inner)) ? part.map((inner) => named(inner, counter)) : part.some((inner) => Array.isArray(inner)) ? named(part, counter) : part) : part;
  }
  return table;
}

function keysOf(value: unknown, path: (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, part]) => {
    const here = [...path, Array.isArray(value) ? Number(key) : key];
    return [...(Array.isArray(value) ? [] : [here]), ...keysOf(part, here)];
  });
}

t.test('the locator finds the line where each key stands', async (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  let found = 0;
  fc.assert(
    fc.property(values, (value) => {
      const table = named(value, { next: 100 });
      const text = stringify(table);
      const lines = text.split('\n');
      const where = locateKeys(text);
      for (const path of keysOf(table)) {
        const key = String(path.at(-1));
        const line = lines.findIndex((content) => new RegExp(`${key.replace('.', '\\.')}(?![0-9])`).test(content)) + 1;
        if (line === 0) continue; // A table without plain keys has no header of its own.
        if (where.lineOf(path) !== line) throw new Error(`${JSON.stringify(path)} is at ${line}, not ${where.lineOf(path)}, in\n${text}`);
        found += 1;
      }
    }),
    { numRuns: process.env['LONG'] ? 20_000 : 1000, seed },
  );
  t.comment(`seed ${seed}: ${found} keys`);
  t.ok(found > 1000);
});

t.test('the locator ends on any text at all', async (t) => {
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom('a', '=', '[', ']', '{', '}', '"', "'", '\n', ',', '.', '#', ' ', '\\') }), (text) => locateKeys(text).lineOf(['a']) !== 0), { numRuns: 2000 });
  t.pass('it ended');
});

t.test('the likely word', async (t) => {
  const words = ['command', 'port', 'state', 'scale'];
  for (const [typed, likely] of [['comand', 'command'], ['prot', 'port'], ['Port', 'port'], ['sclae', 'scale'], ['banana', null], ['', null]] as const) t.equal(nearestWord(typed, words), likely, typed);
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 6 });
  fc.assert(fc.property(letters, letters, (a, b) => wordDistance(a, b) === wordDistance(b, a) && (wordDistance(a, b) === 0) === (a === b)));
});
