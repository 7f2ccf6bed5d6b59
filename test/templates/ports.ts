import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { deflateRaw, inflateRaw } from 'node:zlib';
import type { Test } from 'tap';
import type { Fingerprint } from '../../edgepoint/templates/fingerprint.ts';
import { openKeyRing } from '../../edgepoint/templates/keys.ts';
import { type SealPorts, sealSnapshot } from '../../edgepoint/templates/seal.ts';

const deflate = promisify(deflateRaw);
const inflate = promisify(inflateRaw);

export const ann = { provider: 'ann', scope: 'main', app: 'shop' };

export const fingerprint: Fingerprint = { architecture: 'x64', cpuFeatures: ['avx', 'sse4_2'], kernel: '6.12.1-amd64', criu: '4.2.1', baseRoot: 'root-a', box: 'box-1' };

/** For plain files and folders on Node, where tests run; what only Linux's own calls can do is shown by round-trip.test.ts. */
export function plainPorts(folder: string): SealPorts {
  return {
    site: { zone: 'z', edgepoint: 'e' },
    keys: openKeyRing(join(folder, 'keys')),
    codec: { name: 'deflate', compress: (plain) => deflate(plain), decompress: (packed) => inflate(packed) },
    calls: {
      xattrs: () => [],
      setXattr: () => undefined,
      makeNode: () => undefined,
      setTime: (path, ns) => utimesSync(path, Number(ns) / 1e9, Number(ns) / 1e9),
      dataRanges: (_fd, bytes) => (bytes === 0 ? [] : [[0, bytes]]),
    },
    randomBytes,
  };
}

export function ownFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'templates-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A sealed snapshot of two files; `content` makes it differ from others. */
export async function sealed(folder: string, ports: SealPorts, about: { content: Uint8Array; release?: number }): Promise<{ path: string; name: string }> {
  const plain = join(folder, 'plain');
  rmSync(plain, { recursive: true, force: true });
  for (const part of ['images', 'disk']) mkdirSync(join(plain, part), { recursive: true });
  writeFileSync(join(plain, 'images/pages.img'), about.content);
  writeFileSync(join(plain, 'disk/note'), 'on the disk');
  const aside = join(folder, 'sealing');
  const { name } = await sealSnapshot({ folder: plain, target: aside, owner: ann, release: about.release ?? 1, instance: 'p-1', fingerprint, effort: 'quick' }, ports);
  const path = join(folder, 'at-rest', name);
  mkdirSync(join(folder, 'at-rest'), { recursive: true });
  renameSync(aside, path);
  return { path, name };
}
