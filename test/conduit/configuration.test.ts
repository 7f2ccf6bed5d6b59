import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { changeConfiguration, configurationLimits, configuredManifest, noConfiguration } from '../../conduit/configuration/change.ts';
import type { Configuration, ConfigurationChange } from '../../conduit/configuration/change.ts';
import { openInstallationKey, openVault } from '../../conduit/configuration/vault.ts';
import type { ProviderKeys } from '../../conduit/configuration/vault.ts';
import { openSecrets } from '../../edgepoint/restored/secrets.ts';
import { publicText } from '../../host/wrap.ts';
import { Failure } from '../../kit/errors.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';

const secret = (value: string, release = 1): Configuration['secrets'][string] => ({ value, release, setWallMs: release });
const before: Configuration = { env: { LOG: 'info', REGION: 'eu' }, secrets: { KEY: secret('hidden-one'), OTHER: secret('hidden-two') } };
const at = { release: 7, wallMs: 70 };
const { namesMax, valueBytesMax, bytesMax } = configurationLimits;
const many = (count: number): Record<string, string> => Object.fromEntries(Array.from({ length: count }, (_, index) => [`V${index}`, 'x']));

const refused: readonly (readonly [story: string, change: Partial<ConfigurationChange>, code: string])[] = [
  ['nothing at all', {}, 'change-empty'],
  ['a name with a hyphen', { set: { 'A-B': 'hidden-x' } }, 'variable-name'],
  ['a name that is a value', { set: { 'hidden-x=y': 'v' } }, 'variable-name'],
  ['a name that begins with a digit', { set: { '1A': 'hidden-x' } }, 'variable-name'],
  ['an empty name', { set: { '': 'hidden-x' } }, 'variable-name'],
  ['a name that is too long', { set: { [`A${'B'.repeat(128)}`]: 'hidden-x' } }, 'variable-name'],
  ['the port', { set: { PORT: '1' } }, 'variable-reserved'],
  ['what the edgepoint says', { set: { EDGEPOINT_APP: 'hidden-x' } }, 'variable-reserved'],
  ['a NUL', { set: { A: 'hidden-x\0--volume' } }, 'value-invalid'],
  ['too big a value', { set: { A: `hidden-x${'y'.repeat(valueBytesMax)}` } }, 'value-too-big'],
  ['too big in bytes, not in characters', { set: { A: 'é'.repeat(valueBytesMax / 2 + 1) } }, 'value-too-big'],
  ['too much together', { set: { A: 'y'.repeat(valueBytesMax), B: 'y'.repeat(bytesMax - valueBytesMax) } }, 'configuration-too-big'],
  ['too many', { set: many(namesMax) }, 'too-many-variables'],
  ['a name of the other kind', { set: { KEY: 'hidden-x' } }, 'variable-is-secret'],
  ['a name of the other kind', { kind: 'secrets', set: { LOG: 'hidden-x' } }, 'variable-is-plain'],
  ['an empty secret', { kind: 'secrets', set: { NEW: '' } }, 'secret-empty'],
  ['one that is not set', { unset: ['NEVER'] }, 'variable-unknown'],
  ['one of the other kind is not set here', { kind: 'secrets', unset: ['LOG'] }, 'variable-unknown'],
  ['too big a secret', { kind: 'secrets', set: { A: `hidden-x${'y'.repeat(valueBytesMax)}` } }, 'value-too-big'],
];

t.test('what may not be set is refused by a code of its own, and no value is repeated', async (t) => {
  for (const [story, change, code] of refused) {
    try {
      changeConfiguration(before, { kind: 'env', set: {}, unset: [], ...change }, at);
      t.fail(`${story}: it was taken`);
    } catch (thrown) {
      t.ok(thrown instanceof Failure && thrown.code === code, `${story}: ${code} and not ${String(thrown)}`);
      const said = thrown instanceof Failure ? `${thrown.message} ${thrown.remedy}` : '';
      t.notMatch(said, /hidden/, `${story}: nothing of a value stands in ${said}`);
    }
  }
});

t.test('a change sets, unsets and leaves the rest', async (t) => {
  const change = (kind: ConfigurationChange['kind'], set: Record<string, string>, unset: string[] = []) => changeConfiguration(before, { kind, set, unset }, at);
  t.strictSame(change('env', { LOG: 'debug', NEW: '' }, ['REGION']), { after: { ...before, env: { LOG: 'debug', NEW: '' } }, about: 'env: set LOG, NEW; unset REGION' });
  t.equal(change('env', { LOG: 'info' }), null, 'what stands so already is no change');
  t.strictSame(change('secrets', { KEY: 'hidden-new' })?.after, { ...before, secrets: { KEY: { value: 'hidden-new', release: 7, setWallMs: 70 }, OTHER: before.secrets['OTHER'] } }, 'the other keeps its release');
  t.equal(change('secrets', { KEY: 'hidden-one' })?.after.secrets['KEY']?.release, 7, 'the same secret again is a change: whether a guess was right is told to nobody');
  t.strictSame(change('secrets', {}, ['KEY', 'OTHER'])?.after, { ...before, secrets: {} });
  t.equal(change('secrets', { KEY: 'hidden-new' }, ['OTHER'])?.about, 'secrets: set KEY; unset OTHER');
  t.doesNotThrow(() => changeConfiguration(noConfiguration, { kind: 'env', set: { A: 'y'.repeat(valueBytesMax), B: 'y'.repeat(bytesMax - valueBytesMax - 2) }, unset: [] }, at), 'to the limit');
});

t.test('what is set goes over the manifest, in every process', async (t) => {
  const manifest = manifestSchema.parse({
    app: 'shop', command: ['node'], port: 1, env: { LOG: 'warn', KEY: 'of the manifest', OWN: 'stays' },
    process: [{ name: 'worker', command: ['w'], env: { LOG: 'x', KEY: 'y', QUEUE: 'q' } }],
  });
  const configured = configuredManifest(manifest, before);
  t.strictSame(configured.env, { OWN: 'stays', LOG: 'info', REGION: 'eu' }, 'the secret’s name is left to the secret');
  t.strictSame(configured.process[0]?.env, { QUEUE: 'q' });
  t.strictSame({ ...configured, env: {}, process: [] }, { ...manifest, env: {}, process: [] }, 'nothing else changes');
  t.throws(() => configuredManifest({ ...manifest, env: many(479) }, before), { code: 'too-many-variables' });
});

function keysInMemory(): ProviderKeys & { readonly rows: Map<string, string> } {
  const rows = new Map<string, string>();
  return {
    rows,
    find: async (provider) => rows.get(provider) ?? null,
    add: async (provider, wrapped) => rows.get(provider) ?? (rows.set(provider, wrapped), wrapped),
    any: async () => [...rows].map(([provider, wrapped]) => ({ provider, wrapped }))[0] ?? null,
  };
}

t.test('a sealed row opens where it was sealed, and nowhere else', async (t) => {
  const rows = keysInMemory();
  const key = randomBytes(32);
  const vault = openVault(key, rows, randomBytes);
  const place = { owner: { provider: 'ada', scope: 'main', app: 'shop' }, release: 3 };
  const sealed = await vault.seal(place, before.secrets);
  t.notMatch(Buffer.from(sealed, 'base64').toString('latin1'), /hidden|KEY/);
  t.strictSame(await openVault(key, rows, randomBytes).open(place, sealed), before.secrets, 'another conduit opens it with the same key');
  t.equal(await vault.seal(place, {}), '', 'none are nothing');
  t.strictSame(await vault.open(place, ''), {});
  t.not(await vault.seal(place, before.secrets), sealed, 'twice is not the same');
  const elsewhere = [
    { ...place, release: 4 },
    { ...place, owner: { ...place.owner, app: 'other' } },
    { ...place, owner: { ...place.owner, provider: 'bob' } },
  ];
  for (const other of elsewhere) await t.rejects(vault.open(other, sealed), { code: 'secrets-spoilt' });
  const spoilt = Buffer.from(sealed, 'base64');
  for (let byte = 0; byte < spoilt.length; byte += 17) {
    const changed = Buffer.from(spoilt);
    changed[byte] = (changed[byte] ?? 0) ^ 1;
    await t.rejects(vault.open(place, changed.toString('base64')), { code: 'secrets-spoilt' }, `byte ${byte}`);
  }
  await t.rejects(vault.open(place, 'AAAA'), { code: 'secrets-spoilt' });
  await t.rejects(openVault(randomBytes(32), rows, randomBytes).open(place, sealed), { code: 'key-differs' }, 'another installation’s key');
  rows.rows.set('bob', rows.rows.get('ada') ?? '');
  await t.rejects(openVault(key, rows, randomBytes).seal({ ...place, owner: { ...place.owner, provider: 'bob' } }, before.secrets), { code: 'key-differs' }, 'one provider’s key is not another’s');
});

t.test('what is wrapped for an edgepoint opens there alone, for that app and release', async (t) => {
  const vault = openVault(randomBytes(32), keysInMemory(), randomBytes);
  const [ours, theirs] = [generateKeyPairSync('x25519').privateKey, generateKeyPairSync('x25519').privateKey];
  const owner = { provider: 'ada', scope: 'main', app: 'shop' };
  const site = { zone: 'z', edgepoint: 'a' };
  const secrets = await vault.wrap({ owner, release: 3 }, site, publicText(ours), before.secrets);
  t.strictSame(openSecrets({ secrets, owner, release: 3 }, site, () => ours), { KEY: 'hidden-one', OTHER: 'hidden-two' });
  t.strictSame(await vault.wrap({ owner, release: 3 }, site, publicText(ours), before.secrets), secrets, 'the same again, so that it can be compared');
  const there = await vault.wrap({ owner, release: 3 }, { ...site, edgepoint: 'b' }, publicText(theirs), before.secrets);
  t.equal(there.digest, secrets.digest, 'known as the same at another edgepoint');
  const differing = [
    await vault.wrap({ owner, release: 4 }, site, publicText(ours), before.secrets),
    await vault.wrap({ owner, release: 3 }, site, publicText(theirs), before.secrets),
    await vault.wrap({ owner, release: 3 }, site, publicText(ours), { KEY: secret('hidden-new') }),
    there,
  ];
  const madeKey = (wrapped: string): string => wrapped.slice(0, 58);
  t.equal(new Set([secrets, ...differing].map(({ wrapped }) => madeKey(wrapped))).size, 5, 'no key of an occasion is used for two of them');
  t.not(differing[2]?.digest, secrets.digest);
  for (const [story, order, where, key] of [
    ['another edgepoint’s key', { secrets, owner, release: 3 }, site, theirs],
    ['another edgepoint', { secrets, owner, release: 3 }, { ...site, edgepoint: 'b' }, ours],
    ['another app', { secrets, owner: { ...owner, app: 'spy' }, release: 3 }, site, ours],
    ['another provider', { secrets, owner: { ...owner, provider: 'eve' }, release: 3 }, site, ours],
    ['another release', { secrets, owner, release: 4 }, site, ours],
    ['what is nothing', { secrets: { ...secrets, wrapped: 'AAAA' }, owner, release: 3 }, site, ours],
  ] as const) t.throws(() => openSecrets(order, where, () => key), { code: 'secrets-unreadable' }, story);
  t.strictSame(openSecrets({ owner, release: 3 }, site, () => ours), {});
  await t.rejects(vault.wrap({ owner, release: 3 }, site, 'AAAA', before.secrets), { code: 'edgepoint-key' });
  t.notMatch(JSON.stringify([secrets, there]), /hidden|KEY/);
});

function ownFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-vault-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

t.test('the installation’s key is a file of its user alone, and is never made anew over secrets', async (t) => {
  const path = join(ownFolder(t), 'conduit.key');
  const rows = keysInMemory();
  const open = () => openInstallationKey(path, rows, randomBytes);
  const keys = await Promise.all([open(), open(), open()]);
  t.equal(new Set(keys.map((key) => key.toString('hex'))).size, 1, 'made once, also by three at once');
  t.equal(statSync(path).mode & 0o777, 0o600);
  await openVault(await open(), rows, randomBytes).seal({ owner: { provider: 'ada', scope: 'main', app: 'shop' }, release: 1 }, before.secrets);
  t.equal((await open()).length, 32);
  const bytes = readFileSync(path);
  chmodSync(path, 0o640);
  await t.rejects(open(), { code: 'key-exposed' });
  chmodSync(path, 0o600);
  writeFileSync(path, randomBytes(32));
  await t.rejects(open(), { code: 'key-differs' });
  writeFileSync(path, bytes.subarray(1));
  await t.rejects(open(), { code: 'key-spoilt' });
  rmSync(path);
  await t.rejects(open(), { code: 'key-missing' });
  t.notOk(existsSync(path), 'no new one stands in its place');
  writeFileSync(path, bytes, { mode: 0o600 });
  t.ok((await open()).equals(bytes));
});
