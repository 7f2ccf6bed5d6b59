import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import type { OfferOrder, WantedTemplate } from '../../edgepoint/model/exchange.ts';
import { openExchange } from '../../edgepoint/templates/exchange.ts';
import type { Fingerprint } from '../../edgepoint/templates/fingerprint.ts';
import { unwrapKey, wrapKey } from '../../edgepoint/templates/grant.ts';
import { openKeyRing } from '../../edgepoint/templates/keys.ts';
import { identityOf, readTrusted } from '../../edgepoint/templates/trusted.ts';
import { openSealed } from '../../edgepoint/templates/unseal.ts';
import { ann, fingerprint, ownFolder, plainPorts, sealed } from './ports.ts';

const kibibyte = 1024;

/** One edgepoint's side of the exchange. */
function openSide(folder: string, name: string) {
  const own = join(folder, name);
  const site = { zone: 'z', edgepoint: name };
  const ports = { ...plainPorts(own), site };
  const trustedFile = join(own, 'trusted.json');
  mkdirSync(own, { recursive: true });
  const side = {
    site,
    ports,
    trustedFile,
    folder: own,
    here: fingerprint as Fingerprint,
    identity: identityOf(site, ports.keys),
    trust: (...others: readonly unknown[]) => writeFileSync(trustedFile, JSON.stringify(others), { mode: 0o600 }),
    snapshotPath: join(own, 'snapshots/ann.main.shop/1'),
  };
  return Object.assign(side, { exchange: openExchange({ ...ports, dataFolder: own, here: () => side.here, trusted: () => readTrusted(trustedFile) }) });
}
type Side = ReturnType<typeof openSide>;

const wanted: WantedTemplate = { owner: ann, release: 1, orderDigest: 'all that it depends on' };

/** Seals a template at `a`, offers it to `sites` and carries its bytes to `b`. */
async function offered(a: Side, b: Side, sites: readonly string[], change: Partial<OfferOrder> = {}) {
  const { path, name } = await sealed(a.folder, a.ports, { content: randomBytes(3000 * kibibyte) });
  const at = join(a.folder, 'snapshots/ann.main.shop/1', name);
  mkdirSync(dirname(at), { recursive: true });
  writeFileSync(at, readFileSync(path), { mode: 0o400 });
  const { text, granted } = await a.exchange.offer({ ...wanted, snapshotPath: at, imageBytes: 1, coldBootMs: 700, sites, ...change });
  const file = join(b.folder, 'coming');
  writeFileSync(file, readFileSync(at));
  return { text, granted, file, name, at, order: { offer: text, from: a.site, wanted, file, snapshotPath: b.snapshotPath } };
}

function twoSides(t: Test): { a: Side; b: Side } {
  const folder = ownFolder(t);
  const [a, b] = [openSide(folder, 'a'), openSide(folder, 'b')];
  a.trust(b.identity);
  b.trust(a.identity);
  return { a, b };
}

t.test('a template of one edgepoint becomes another’s own, byte for byte, by keys that never meet', async (t) => {
  const { a, b } = twoSides(t);
  const { order, granted, name, text, at } = await offered(a, b, ['z.a', 'z.b', 'z.unknown']);
  t.same(granted, ['z.b'], 'its key is wrapped for those who host it and are known');
  t.match(await b.exchange.weigh(order), { usable: true, name, bytes: statSync(order.file).size, coldBootMs: 700 });
  const admitted = await b.exchange.admit(order);
  t.equal(dirname(admitted.snapshotPath), b.snapshotPath);
  t.same(readdirSync(dirname(b.snapshotPath)), ['1'], 'nothing else lies about');
  t.equal(statSync(admitted.snapshotPath).mode & 0o777, 0o400);

  const unpacked = async (side: Side, path: string): Promise<string> => {
    const opened = openSealed(path, wanted, side.ports);
    const to = join(side.folder, 'plain-again');
    mkdirSync(to);
    await opened.unpack(new Map(['images', 'disk'].map((part) => [part, join(to, part)])));
    opened.close();
    return readFileSync(join(to, 'images/pages.img')).toString('hex') + readFileSync(join(to, 'disk/note'), 'utf8');
  };
  t.equal(await unpacked(b, admitted.snapshotPath), await unpacked(a, at));
  t.match(openSealed(admitted.snapshotPath, wanted, b.ports).index, { ...b.site, madeBy: { ...a.site, name }, fingerprint });
  t.notSame(a.ports.keys.providerKey('ann'), b.ports.keys.providerKey('ann'), 'each has a key of its own for the provider');
  for (const key of [a, b].map((side) => side.ports.keys.providerKey('ann') as Buffer)) {
    for (const form of ['hex', 'base64', 'latin1'] as const) t.notOk(text.includes(key.toString(form)), 'and none is told');
  }
  await t.rejects(b.exchange.admit(order), { code: 'exists' });
});

t.test('what one has put away it takes back as it was', async (t) => {
  const { a } = twoSides(t);
  const { text, name, at } = await offered(a, a, []);
  const file = join(a.folder, 'coming');
  const again = { offer: text, from: a.site, wanted, file, snapshotPath: join(a.folder, 'snapshots/ann.main.shop/again') };
  t.match(await a.exchange.weigh(again), { usable: true, name });
  const { snapshotPath } = await a.exchange.admit(again);
  t.equal(snapshotPath, join(again.snapshotPath, name), 'under its name');
  t.ok(readFileSync(snapshotPath).equals(readFileSync(at)));
});

const other = { ...ann, provider: 'bob' };
const offers: Readonly<Record<string, { change?(a: Side, b: Side): void; wanted?: Partial<WantedTemplate>; sites?: readonly string[]; offer?(text: string): string; why: RegExp }>> = {
  'of an edgepoint that the operator has not named': { change: (_a, b) => b.trust(), why: /z\.a is not among the edgepoints whose templates are used here/ },
  'signed by another than it says': { change: (a, b) => b.trust({ ...a.identity, signs: b.identity.signs }), why: /z\.a has not signed/ },
  'altered': { offer: (text) => text.replace('\\"release\\":1', '\\"release\\":2'), why: /has not signed/ },
  'no offer at all': { offer: () => '{"offer":1}', why: /cannot be read/ },
  'not even JSON': { offer: () => 'PK', why: /cannot be read/ },
  'of another release': { wanted: { release: 2 }, why: /of release 1, not 2/ },
  'of another provider': { wanted: { owner: other }, why: /another app/ },
  'of another artefact under the same number': { wanted: { orderDigest: 'other' }, why: /another artefact or manifest/ },
  'for others only': { sites: ['z.c'], why: /z\.a has not given its key to this edgepoint/ },
  'for a key that this one has not': { change: (a) => a.trust({ ...a.identity, edgepoint: 'b' }), why: /not given its key/ },
  'of a processor that can do more': { change: (_a, b) => (b.here = { ...fingerprint, cpuFeatures: ['sse4_2'] }), why: /processor features that are missing here: avx$/ },
  'of a newer kernel': { change: (_a, b) => (b.here = { ...fingerprint, kernel: '6.1.0' }), why: /Linux 6\.12\.1-amd64 and this is the older/ },
  'of another base root': { change: (_a, b) => (b.here = { ...fingerprint, baseRoot: 'root-b' }), why: /another base root/ },
  'of another box': { change: (_a, b) => (b.here = { ...fingerprint, box: 'box-2' }), why: /another build/ },
};
for (const [label, row] of Object.entries(offers)) {
  t.test(`an offer ${label} is known to be of no use before anything is fetched`, async (t) => {
    const { a, b } = twoSides(t);
    row.change?.(a, b);
    const { text, order } = await offered(a, b, row.sites ?? ['z.b']);
    const asked = { ...order, offer: row.offer?.(text) ?? text, wanted: { ...wanted, ...row.wanted } };
    t.match(await b.exchange.weigh(asked), { usable: false, reason: row.why });
    await t.rejects(b.exchange.admit(asked), { code: 'snapshot-refused', message: row.why }, 'nor is it admitted, whoever asks');
    t.notOk(existsSync(join(b.folder, 'snapshots')) && readdirSync(join(b.folder, 'snapshots'), { recursive: true }).some((path) => String(path).includes('1')));
  });
}

const flip = (bytes: Buffer, at: number): Buffer => {
  bytes[at] = (bytes[at] as number) ^ 1;
  return bytes;
};
const files: Readonly<Record<string, { spoil(bytes: Buffer, file: string): Buffer | null; why: RegExp }>> = {
  'cut off': { spoil: (bytes) => bytes.subarray(0, -1), why: /is not the \d+ bytes that were offered/ },
  'empty': { spoil: () => Buffer.alloc(0), why: /is not the \d+ bytes/ },
  'altered in its first chunk': { spoil: (bytes) => flip(bytes, 100), why: /its chunk 1 of 2 is not what was sealed/ },
  'altered in its last chunk': { spoil: (bytes) => flip(bytes, 2.5 * 1024 * kibibyte), why: /its chunk 2 of 2 is not what was sealed/ },
  'altered in its index': { spoil: (bytes) => flip(bytes, bytes.length - 300), why: /has not signed it, or it was altered/ },
  'altered at its end': { spoil: (bytes) => flip(bytes, bytes.length - 1), why: /its end is missing/ },
  'a link to something': {
    spoil: (_bytes, file) => {
      symlinkSync('/etc/hostname', `${file}-link`);
      return null;
    },
    why: /ELOOP/,
  },
};
for (const [label, { spoil, why }] of Object.entries(files)) {
  t.test(`a file that is ${label} is not admitted, and nothing is left`, async (t) => {
    const { a, b } = twoSides(t);
    const { order } = await offered(a, b, ['z.b']);
    const spoilt = spoil(readFileSync(order.file), order.file);
    if (spoilt !== null) writeFileSync(order.file, spoilt);
    await t.rejects(b.exchange.admit({ ...order, file: spoilt === null ? `${order.file}-link` : order.file }), { message: why });
    t.same(readdirSync(dirname(b.snapshotPath)), []);
  });
}

t.test('another template of the same maker, however authentic, is not the one that was offered', async (t) => {
  const { a, b } = twoSides(t);
  const first = await offered(a, b, ['z.b']);
  const second = await sealed(a.folder, a.ports, { content: randomBytes(3000 * kibibyte) });
  const bytes = readFileSync(second.path);
  writeFileSync(first.file, bytes);
  const why = bytes.length === statSync(first.at).size ? /another snapshot/ : /is not the \d+ bytes/;
  await t.rejects(b.exchange.admit(first.order), { code: 'snapshot-refused', message: why });
});

t.test('a template is read in pieces, and nothing else is', async (t) => {
  const { a } = twoSides(t);
  const { at } = await offered(a, a, []);
  const whole = readFileSync(at);
  const pieces: Buffer[] = [];
  for (let from = 0; from < whole.length; ) {
    const piece = Buffer.from((await a.exchange.readSealed({ snapshotPath: at, from, bytes: 1e9 })).base64, 'base64');
    t.ok(piece.length <= 1024 * kibibyte);
    pieces.push(piece);
    from += piece.length;
  }
  t.ok(Buffer.concat(pieces).equals(whole));
  for (const path of [join(a.folder, 'keys/edgepoint.pem'), '/etc/passwd', join(a.folder, 'snapshots/../keys/edgepoint.pem'), join(dirname(at), 'snapshot.json'), `${a.folder}/snapshots/../keys/${'a'.repeat(64)}`]) {
    await t.rejects(a.exchange.readSealed({ snapshotPath: path, from: 0, bytes: 10 }), { code: 'no-template' }, path);
  }
});

t.test('a wrapped key opens for its recipient, in its place, and for nobody else', async (t) => {
  const [ours, theirs] = [generateKeyPairSync('x25519'), generateKeyPairSync('x25519')];
  const place = { name: 'n', recipient: { zone: 'z', edgepoint: 'b' } };
  const key = randomBytes(32);
  const grant = wrapKey(key, ours.publicKey, place);
  t.ok(unwrapKey(grant, ours.privateKey, place)?.equals(key));
  t.not(wrapKey(key, ours.publicKey, place), grant, 'each by a key of its own');
  t.equal(unwrapKey(grant, theirs.privateKey, place), null);
  t.equal(unwrapKey(grant, ours.privateKey, { ...place, name: 'm' }), null);
  t.equal(unwrapKey(grant, ours.privateKey, { ...place, recipient: { zone: 'z', edgepoint: 'c' } }), null);
  for (const bad of ['', 'AAAA', grant.slice(0, -8), randomBytes(120).toString('base64')]) t.equal(unwrapKey(bad, ours.privateKey, place), null);
  for (let at = 0; at < Buffer.from(grant, 'base64').length; at += 7) t.equal(unwrapKey(flip(Buffer.from(grant, 'base64'), at).toString('base64'), ours.privateKey, place)?.equals(key) ?? null, null, `byte ${at}`);
});

t.test('whom to trust says a file of root alone', async (t) => {
  const { a, b } = twoSides(t);
  t.same(readTrusted(b.trustedFile).map(({ zone, edgepoint }) => ({ zone, edgepoint })), [a.site]);
  t.same(readTrusted(''), []);
  t.same(readTrusted(join(b.folder, 'none')), [], 'not written yet');
  chmodSync(b.trustedFile, 0o620);
  t.throws(() => readTrusted(b.trustedFile), { code: 'trusted-exposed' });
  chmodSync(b.trustedFile, 0o600);
  for (const [label, spoilt] of Object.entries({ 'no list': {}, 'a private name': [{ ...a.identity, edgepoint: '../x' }], 'keys changed about': [{ ...a.identity, signs: a.identity.opens }], 'no key': [{ ...a.identity, opens: 'AAAA' }] })) {
    writeFileSync(b.trustedFile, JSON.stringify(spoilt));
    t.throws(() => readTrusted(b.trustedFile), { code: 'trusted-spoilt' }, label);
  }
  writeFileSync(b.trustedFile, '[');
  t.throws(() => readTrusted(b.trustedFile), { code: 'trusted-spoilt' });
  t.same(openKeyRing(join(b.folder, 'keys')).openingKey().asymmetricKeyType, 'x25519');
});
