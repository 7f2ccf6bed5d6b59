import { spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { openKeyRing } from '../../edgepoint/templates/keys.ts';
import { ownFolder } from './ports.ts';

const bun = fileURLToPath(new URL('../../node_modules/.bin/bun', import.meta.url));
const source = fileURLToPath(new URL('../../edgepoint/templates/keys.ts', import.meta.url));

t.test('keys are made on first use, once, for root alone', async (t) => {
  const folder = join(ownFolder(t), 'keys');
  const ring = openKeyRing(folder);
  t.equal(ring.providerKey('ann'), null, 'asking makes none');
  t.equal(ring.publicKey(), null);
  const ann = ring.makeProviderKey('ann');
  t.same(ring.makeProviderKey('ann'), ann);
  t.notSame(ring.makeProviderKey('bob'), ann, 'each provider has another');
  ring.signingKey();
  const again = openKeyRing(folder);
  t.same(again.providerKey('ann'), ann, 'they outlive the process');
  t.same(again.publicKey()?.export({ type: 'spki', format: 'pem' }), ring.publicKey()?.export({ type: 'spki', format: 'pem' }));
  t.same(readdirSync(folder).toSorted(), ['edgepoint.pem', 'provider-ann.key', 'provider-bob.key'], 'nothing else lies about');
  for (const name of ['', ...readdirSync(folder)]) t.equal(statSync(join(folder, name)).mode & 0o077, 0, name);
  t.throws(() => ring.makeProviderKey('../ann'), /provider's name/);
});

t.test('processes that make one at the same time agree', async (t) => {
  const folder = join(ownFolder(t), 'keys');
  const script = `import { openKeyRing } from '${source}'; console.log(openKeyRing('${folder}').makeProviderKey('ann').toString('hex'))`;
  const keys = await Promise.all(
    Array.from(
      { length: 6 },
      () =>
        new Promise<string>((resolve) => {
          let text = '';
          const child = spawn(bun, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
          child.stdout.on('data', (bytes: Buffer) => (text += bytes.toString()));
          child.once('close', () => resolve(text.trim()));
        }),
    ),
  );
  t.match(keys[0], /^[0-9a-f]{64}$/);
  t.equal(new Set(keys).size, 1);
  t.same(readdirSync(folder), ['provider-ann.key']);
});

const rows: Readonly<Record<string, { spoil(path: string): void; code: string }>> = {
  'readable by others': { spoil: (path) => chmodSync(path, 0o604), code: 'key-exposed' },
  'writable by a group': { spoil: (path) => chmodSync(path, 0o620), code: 'key-exposed' },
  'another user’s': { spoil: (path) => chownSync(path, 1234, 0), code: 'key-exposed' },
  'too short': { spoil: (path) => writeFileSync(path, Buffer.alloc(16)), code: 'key-spoilt' },
};
for (const [label, { spoil, code }] of Object.entries(rows)) {
  t.test(`a key that is ${label} is not used: ${code}`, async (t) => {
    const folder = join(ownFolder(t), 'keys');
    openKeyRing(folder).makeProviderKey('ann');
    spoil(join(folder, 'provider-ann.key'));
    t.throws(() => openKeyRing(folder).providerKey('ann'), { code });
    t.throws(() => openKeyRing(folder).makeProviderKey('ann'), { code }, 'nor replaced');
  });
}

t.test('a link in the place of a key is not followed', async (t) => {
  const folder = ownFolder(t);
  mkdirSync(join(folder, 'keys'));
  writeFileSync(join(folder, 'elsewhere'), Buffer.alloc(32), { mode: 0o600 });
  symlinkSync(join(folder, 'elsewhere'), join(folder, 'keys/provider-ann.key'));
  t.throws(() => openKeyRing(join(folder, 'keys')).providerKey('ann'), { code: 'key-exposed' });
});
