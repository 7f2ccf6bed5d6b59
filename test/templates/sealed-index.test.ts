import { generateKeyPairSync } from 'node:crypto';
import t from 'tap';
import { encodeIndex, indexLength, readIndex, type SealedIndex, signatureBytes, trailerBytes, whyForeign } from '../../edgepoint/templates/sealed-index.ts';
import { ann, fingerprint } from './ports.ts';

const ours = generateKeyPairSync('ed25519');
const theirs = generateKeyPairSync('ed25519');
const index: SealedIndex = {
  version: 1,
  codec: 'zstd',
  zone: 'z',
  edgepoint: 'e',
  owner: ann,
  release: 3,
  instance: 'p-1',
  salt: '00'.repeat(32),
  plainBytes: 9,
  imageBytes: 5,
  diskBytes: 4,
  fingerprint,
  chunks: [{ bytes: 100, digest: 'a' }, { bytes: 20, digest: 'b' }],
};

function parts(bytes: Buffer): { text: Buffer; signature: Buffer; trailer: Buffer } {
  return { text: bytes.subarray(0, -trailerBytes), trailer: bytes.subarray(-trailerBytes), signature: bytes.subarray(-trailerBytes).subarray(0, signatureBytes) };
}

t.test('an index is read by whoever signed it, for the file it describes', async (t) => {
  const { bytes, name } = encodeIndex(index, ours.privateKey);
  const { text, signature, trailer } = parts(bytes);
  const fileBytes = 120 + bytes.length;
  t.same(indexLength(trailer, fileBytes), { ok: true, value: text.length });
  const about = { fileBytes, name, publicKey: ours.publicKey };
  t.same(readIndex(text, signature, about), { ok: true, value: index });
  t.same(readIndex(text, signature, { ...about, name: null }), { ok: true, value: index });
  const refusals: readonly [string, ReturnType<typeof readIndex>, RegExp][] = [
    ['signed by another', readIndex(text, signature, { ...about, publicKey: theirs.publicKey }), /has not signed it/],
    ['altered', readIndex(Buffer.from(text.toString().replace('"release":3', '"release":4')), signature, about), /has not signed it/],
    ['under another name', readIndex(text, signature, { ...about, name: 'f'.repeat(64) }), /another snapshot/],
    ['with more after its chunks', readIndex(text, signature, { ...about, fileBytes: fileBytes + 1 }), /not as long as it was/],
  ];
  for (const [label, judged, reason] of refusals) t.match(judged, { ok: false, refusal: reason }, label);
  const future = encodeIndex({ ...index, version: 2 as 1 }, ours.privateKey);
  t.match(readIndex(parts(future.bytes).text, parts(future.bytes).signature, { ...about, name: null }), { ok: false, refusal: /of version 2/ });
});

t.test('an end that cannot be one is refused before anything is read', async (t) => {
  const { bytes } = encodeIndex(index, ours.privateKey);
  const { trailer } = parts(bytes);
  const longer = Buffer.from(trailer);
  longer.writeUInt32LE(0xffff_ffff, signatureBytes);
  t.match(indexLength(longer, 1e12), { ok: false, refusal: /longer than it can be/ });
  t.match(indexLength(trailer, trailer.length), { ok: false, refusal: /longer than it can be/ });
  t.match(indexLength(trailer.subarray(1), 1000), { ok: false, refusal: /end is missing/ });
  t.match(indexLength(Buffer.alloc(trailerBytes), 1000), { ok: false, refusal: /end is missing/ });
});

t.test('whose it is, and of what', async (t) => {
  const wanted = { owner: ann, release: 3 };
  const here = { zone: 'z', edgepoint: 'e' };
  t.equal(whyForeign(index, wanted, here), null);
  t.match(whyForeign(index, wanted, { ...here, edgepoint: 'f' }), /made for e in z/);
  t.match(whyForeign(index, { ...wanted, owner: { ...ann, provider: 'bob' } }, here), /another provider/);
  t.match(whyForeign(index, { ...wanted, owner: { ...ann, scope: 'test' } }, here), /another app/);
  t.match(whyForeign(index, { ...wanted, release: 2 }, here), /release 3, not 2/);
});
