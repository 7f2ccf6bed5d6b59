import { chmodSync, chownSync, closeSync, ftruncateSync, lchownSync, linkSync, mkdirSync, openSync, symlinkSync, utimesSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { fileCalls } from '../../edgepoint/box/file-calls.ts';
import { openKeyRing } from '../../edgepoint/templates/keys.ts';
import { sealSnapshot } from '../../edgepoint/templates/seal.ts';
import { openSealed } from '../../edgepoint/templates/unseal.ts';
import { zstd } from '../../host/zstd.ts';
import { ann, fingerprint } from './ports.ts';

/**
 * On Bun: makes a snapshot of everything a private disk may hold in `<folder>/before`, seals it and lays it out in `<folder>/after`;
 * prints what has extended attributes there, one JSON line for each side.
 */
const [folder = ''] = process.argv.slice(2);
const before = join(folder, 'before');
const disk = join(before, 'disk');
const bytes = (text: string): Buffer => Buffer.from(text);
for (const path of [join(before, 'images'), join(disk, 'var/deep/er'), join(disk, 'replaced')]) mkdirSync(path, { recursive: true });

writeFileSync(join(before, 'images/pages-1.img'), randomBytes(3 * 2 ** 20 + 17));
writeFileSync(join(before, 'images/empty.img'), '');
fileCalls.makeNode(bytes(join(disk, 'removed')), 0o020_000, 0n);
fileCalls.setXattr(bytes(join(disk, 'replaced')), 'trusted.overlay.opaque', bytes('y'));
writeFileSync(join(disk, 'replaced/new'), 'new');
writeFileSync(join(disk, 'var/tool'), 'runs as another');
chownSync(join(disk, 'var/tool'), 65_536, 65_537);
chmodSync(join(disk, 'var/tool'), 0o6755);
fileCalls.setXattr(bytes(join(disk, 'var/tool')), 'user.note', bytes(''));
fileCalls.setXattr(bytes(join(disk, 'var/tool')), 'security.capability', Buffer.from('0100000200040000000000000000000000000000', 'hex'));
linkSync(join(disk, 'var/tool'), join(disk, 'var/deep/same tool'));
symlinkSync('../nowhere at all', join(disk, 'var/link'));
lchownSync(join(disk, 'var/link'), 1, 2);
fileCalls.makeNode(bytes(join(disk, 'var/pipe')), 0o010_640, 0n);
fileCalls.makeNode(bytes(join(disk, 'var/socket')), 0o140_777, 0n);
writeFileSync(Buffer.concat([bytes(join(disk, 'var/not ')), Buffer.from([0xff, 0xfe])]), 'a name that is no text');
const holes = openSync(join(disk, 'var/deep/holes'), 'w');
writeSync(holes, 'at the beginning', 0);
writeSync(holes, 'in the middle', 8 * 2 ** 20);
ftruncateSync(holes, 2 ** 40);
closeSync(holes);
chmodSync(join(disk, 'var/deep/holes'), 0);
utimesSync(join(disk, 'var/tool'), 1, 1_600_000_000.123);
for (const [index, path] of ['var/link', 'var/deep/er', 'var/deep', 'var', 'replaced', '.'].entries()) fileCalls.setTime(bytes(join(disk, path)), 1_700_000_000_123_456_789n + BigInt(index));
fileCalls.setTime(bytes(join(disk, 'removed')), -5n);

const ports = { site: { zone: 'z', edgepoint: 'e' }, keys: openKeyRing(join(folder, 'keys')), codec: zstd, calls: fileCalls, randomBytes };
const sealed = join(folder, 'sealed');
const { bytes: sealedBytes } = await sealSnapshot({ folder: before, target: sealed, owner: ann, release: 1, instance: 'i-1', fingerprint, effort: 'small' }, ports);
mkdirSync(join(folder, 'after'));
const opened = openSealed(sealed, { owner: ann, release: 1 }, ports);
await opened.unpack(new Map(['images', 'disk'].map((part) => [part, join(folder, 'after', part)])));
opened.close();

const xattrs = (side: string): string =>
  JSON.stringify(['replaced', 'var/tool', 'var/deep/same tool', 'var'].map((path) => fileCalls.xattrs(bytes(join(folder, side, 'disk', path))).map(([name, value]) => [name, value.toString('hex')]).toSorted()));
console.log(xattrs('before'));
console.log(xattrs('after'));
console.log(JSON.stringify({ sealedBytes }));
