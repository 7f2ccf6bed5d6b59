import t from 'tap';
import { z } from 'zod';
import { decideSettings, describeSettings } from '../../host/config.ts';
import { nearestWord } from '../../kit/nearest-word.ts';

const settings = {
  name: 'tester',
  about: 'Tests settings.',
  prefix: 'TESTER',
  schema: z.object({
    natsUrl: z.string().describe('Where the message server is.'),
    ttlSeconds: z.int().min(1).default(30).describe('How long answers may be kept.'),
    sites: z.array(z.object({ zone: z.string(), edgepoint: z.string() })).default([]).describe('Edgepoints.'),
    listen: z.array(z.string()).default(['0.0.0.0:80']).describe('Addresses.'),
    drained: z.boolean().default(false).describe('Takes nothing new.'),
    locationFile: z.string().default('').describe('A file.'),
  }),
};
const files: Record<string, string> = {
  'all.json': '{"natsUrl":"file","ttlSeconds":1,"sites":[{"zone":"a","edgepoint":"b"}]}',
  'all.toml': 'natsUrl = "toml"\nttlSeconds = 2\n[[sites]]\nzone = "a"\nedgepoint = "b"\n',
  'typo.json': '{"natsurl":"x"}',
  'bad.json': '{"natsUrl":',
  'bad.toml': 'natsUrl = = 1',
  'list.json': '[]',
  'wrong.json': '{"natsUrl":"x","sites":[{"zone":1}]}',
};
const decide = (argv: string[], env: Record<string, string> = {}): Promise<Record<string, unknown>> =>
  decideSettings(settings, argv, env, async (path) => {
    const text = files[path];
    if (text === undefined) throw new Error('ENOENT');
    return text;
  });

t.test('the later source wins', async (t) => {
  t.match(await decide(['--config', 'all.json']), { natsUrl: 'file', ttlSeconds: 1, listen: ['0.0.0.0:80'], sites: [{ zone: 'a' }] });
  t.match(await decide(['--config=all.toml']), { natsUrl: 'toml', ttlSeconds: 2, sites: [{ edgepoint: 'b' }] });
  t.match(await decide(['--config', 'all.json'], { TESTER_TTL_SECONDS: '5' }), { ttlSeconds: 5 });
  t.match(await decide(['--ttl-seconds', '7', '--config', 'all.json'], { TESTER_TTL_SECONDS: '5' }), { ttlSeconds: 7 });
  t.match(await decide(['--nats-url=a=b', '--sites', '[{"zone":"z","edgepoint":"e"}]', '--listen', 'one, two', '--drained', 'true', '--location-file', '123']), {
    natsUrl: 'a=b',
    sites: [{ zone: 'z' }],
    listen: ['one', 'two'],
    drained: true,
    locationFile: '123',
  });
});

t.test('the result is frozen all the way down', async (t) => {
  const result = (await decide(['--config', 'all.json'])) as { sites: { zone: string }[] };
  t.throws(() => {
    (result.sites[0] as { zone: string }).zone = 'other';
  }, TypeError);
  t.throws(() => result.sites.push({ zone: 'x' }), TypeError);
});

/** Each refusal names its source and field, and what to do. */
const refusals: readonly (readonly [string, string[], Record<string, string>, RegExp, RegExp])[] = [
  ['missing', [], {}, /natsUrl is missing/, /--nats-url.*TESTER_NATS_URL/],
  ['mistyped key', ['--config', 'typo.json'], {}, /typo\.json: natsurl is not a setting; did you mean natsUrl\?/, /--help/],
  ['mistyped option', ['--nats-ulr', 'x'], {}, /--nats-ulr is not a setting; did you mean nats-url\?/, /--help/],
  ['nothing alike', ['--frobnicate', 'x'], {}, /--frobnicate is not a setting$/, /--help/],
  ['wrong type in the environment', ['--nats-url', 'x'], { TESTER_TTL_SECONDS: 'soon' }, /environment variable TESTER_TTL_SECONDS: .*expected number/, /How long answers/],
  ['out of range', ['--nats-url', 'x', '--ttl-seconds', '0'], {}, /option --ttl-seconds: /, /How long/],
  ['deep in a file', ['--config', 'wrong.json'], {}, /wrong\.json: sites\.0\.zone: /, /Edgepoints/],
  ['no such file', ['--config', 'none.json'], {}, /none\.json cannot be read/, /^$/],
  ['not JSON', ['--config', 'bad.json'], {}, /bad\.json is not JSON/, /^$/],
  ['not TOML', ['--config', 'bad.toml'], {}, /bad\.toml is not TOML/, /^$/],
  ['a list', ['--config', 'list.json'], {}, /list\.json holds a list/, /^$/],
  ['no value', ['--nats-url'], {}, /--nats-url needs a value/, /^$/],
  ['no option', ['head'], {}, /"head" is not an option/, /--name value/],
];
for (const [what, argv, env, message, remedy] of refusals) {
  t.test(`refused: ${what}`, async (t) => {
    await t.rejects(decide(argv, env), { code: 'bad-setting', message, remedy });
  });
}

t.test('--help says everything', async (t) => {
  const help = describeSettings(settings);
  for (const field of Object.keys(settings.schema.shape)) t.match(help, field);
  t.match(help, /ttlSeconds {2}--ttl-seconds {2}TESTER_TTL_SECONDS\n.*How long answers may be kept\. \(default 30\)/);
  t.match(help, /natsUrl.*\n.*\(needed\)/);
});

t.test('the likeliest word', async (t) => {
  t.equal(nearestWord('natsUlr', ['natsUrl', 'name']), 'natsUrl');
  t.equal(nearestWord('nats_url', ['natsUrl']), 'natsUrl');
  t.equal(nearestWord('zzz', ['natsUrl']), null);
  t.equal(nearestWord('', []), null);
});
