import { generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { WrappedSecrets } from '../../kit/wire/secrets.ts';
import { secretsContext } from '../../kit/wire/secrets.ts';
import { publicText, readPublicKey, wrapFor } from '../../host/wrap.ts';
import { openEngine } from './engine.ts';
import type { Engine } from './engine.ts';

const owner = { provider: 'ann', scope: 'main', app: 'shop' };

/** As the conduit wraps them, for the engine's edgepoint. */
async function wrapped(engine: Engine, secrets: Record<string, string>, key?: string): Promise<WrappedSecrets> {
  const recipient = readPublicKey(key ?? ((await engine.restored.call('opens', {})) as string));
  if (recipient === null) throw new Error('restored told no key');
  return { digest: 'ab'.repeat(32), wrapped: wrapFor(recipient, secretsContext(owner, 1, { zone: 'z', edgepoint: 'e' }), Buffer.from(JSON.stringify(secrets))) };
}

const look = `const fs = require('fs'); return { env: process.env, files: fs.existsSync('/run/secrets') ? fs.readdirSync('/run/secrets').sort().map((name) => [name, fs.readFileSync('/run/secrets/' + name, 'utf8'), (fs.statSync('/run/secrets/' + name).mode & 0o7777).toString(8), fs.statSync('/run/secrets/' + name).uid]) : [] }`;
const seen = (engine: Engine, instance: { readonly address: string }) => engine.run(instance, look) as Promise<{ env: Record<string, string>; files: unknown[] }>;

t.test('secrets reach a program as variables and as files, at a boot and at each restore', async (t) => {
  const engine = await openEngine(t);
  const values = { KEY: 'hidden {instance}', PEM: 'hidden\nof two lines\n', PORT: 'not theirs to say', LD_PRELOAD: '/nowhere.so' };
  const secrets = await wrapped(engine, values);
  const order = engine.order('first', { secrets, env: { NAME: '{instance}', PORT: '8080' } });
  const first = await engine.boot(order);
  const booted = await seen(engine, first);
  t.match(booted.env, { KEY: 'hidden {instance}', PEM: values.PEM, NAME: 'first', PORT: '8080', LD_PRELOAD: /clone-guard\.so:\/nowhere\.so$/ }, 'as they are: braces in them stand for nothing');
  const files = (of: Record<string, string>): unknown[] => Object.entries(of).toSorted().map(([name, text]) => [name, text, '400', 0]);
  t.same(booted.files, files(values));

  const path = engine.snapshotPath('shop');
  await engine.snapshot('first', path, true);
  const rotated = { KEY: 'hidden anew', PEM: values.PEM };
  const clone = await engine.restore({ ...engine.order('clone', { secrets }), snapshotPath: path, continues: false });
  t.same(await seen(engine, clone).then(({ files: found }) => found), files(values));
  const later = await engine.restore({ ...engine.order('later', { secrets: await wrapped(engine, rotated) }), snapshotPath: path, continues: false });
  const found = await seen(engine, later);
  t.same(found.files.filter((row) => (row as string[])[0] === 'KEY'), files({ KEY: 'hidden anew' }), 'a file has the value of its restore, not of its template');
  t.equal(found.env['KEY'], 'hidden {instance}', 'a variable lies in the memory the template was taken with, which is why a change makes a release');

  const records = join(engine.runFolder, 'instances');
  for (const name of readdirSync(engine.place.path(records)).filter((one) => one.endsWith('.json'))) {
    t.notMatch(readFileSync(engine.place.path(join(records, name)), 'utf8'), /hidden/, `${name}: the journal of instances has them wrapped`);
  }
  for (const { instance } of await engine.list()) await engine.stop(instance);
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('secrets that are not for this edgepoint are refused, and nothing is begun', async (t) => {
  const engine = await openEngine(t);
  const theirs = publicText(generateKeyPairSync('x25519').privateKey);
  const forOthers = await wrapped(engine, { KEY: 'hidden' }, theirs);
  await t.rejects(engine.boot(engine.order('one', { secrets: forOthers })), { code: 'secrets-unreadable', message: 'the secrets of release 1 were not wrapped for this edgepoint' });
  const ours = await wrapped(engine, { KEY: 'hidden' });
  await t.rejects(engine.boot(engine.order('two', { secrets: ours, release: 2 })), { code: 'secrets-unreadable' }, 'another release');
  await t.rejects(engine.boot(engine.order('three', { secrets: ours, owner: { ...owner, app: 'spy' } })), { code: 'secrets-unreadable' }, 'another app');
  for (const name of ['../../etc/x', 'a/b', '.', '']) {
    const odd = await wrapped(engine, { [name]: 'hidden' });
    await t.rejects(engine.boot(engine.order('odd', { secrets: odd })), { code: 'secrets-unreadable' }, `a name that would be a path: ${JSON.stringify(name)}`);
  }
  await t.rejects(engine.boot(engine.order('nul', { secrets: await wrapped(engine, { KEY: 'x\0--volume\0/etc/shadow\0/mnt' }) })), { code: 'secrets-unreadable' }, 'a value that would be several words');
  t.same(await engine.list(), []);
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('what is set to the limits fits into a boot and a restore', async (t) => {
  const engine = await openEngine(t);
  const many = Object.fromEntries(Array.from({ length: 126 }, (_, index) => [`S${index}`, 'x']));
  const secrets = await wrapped(engine, { ...many, A: 'a'.repeat(32 * 1024), B: 'b'.repeat(31 * 1024) });
  const env = Object.fromEntries(Array.from({ length: 352 }, (_, index) => [`V${index}`, 'y'.repeat(180)]));
  const order = engine.order('full', { secrets, env });
  const about = `return [Object.keys(process.env).filter((name) => /^[SVAB]\\d*$/.test(name)).length, process.env.A.length, require('fs').readdirSync('/run/secrets').length]`;
  t.same(await engine.run(await engine.boot(order), about), [480, 32 * 1024, 128]);
  await engine.snapshot('full', engine.snapshotPath('full'), true);
  const clone = await engine.restore({ ...engine.order('clone', { secrets }), snapshotPath: engine.snapshotPath('full'), continues: false });
  t.same(await engine.run(clone, about), [480, 32 * 1024, 128]);
});
