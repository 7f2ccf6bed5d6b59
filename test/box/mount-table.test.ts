import t from 'tap';
import { layersOf, mountsBelow } from '../../edgepoint/box/mount-table.ts';

const table = [
  '22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw',
  '30 22 0:30 / /run/e/instances/i1/private rw,nodev - tmpfs edgepoint-disk rw,size=1024k',
  '31 22 0:31 / /run/e/instances/i1/root rw,nodev - overlay edgepoint-root rw,lowerdir=/run/e/instances/i1/other',
  '32 31 0:32 / /run/e/instances/i1/root/deep rw - tmpfs x rw',
  '33 22 0:33 / /run/e/instances/i10/root rw - overlay edgepoint-root rw',
  String.raw`34 22 0:34 / /run/e/instances/odd\040name\134x/root rw - tmpfs x rw`,
  '35 22 0:35 / /run/e/instances/i1 rw - tmpfs x rw',
  '',
].join('\n');

t.test('mounts at or below a folder, the last made first, so that each can be unmounted', async (t) => {
  t.same(mountsBelow(table, '/run/e/instances/i1'), [
    '/run/e/instances/i1',
    '/run/e/instances/i1/root/deep',
    '/run/e/instances/i1/root',
    '/run/e/instances/i1/private',
  ]);
  t.same(mountsBelow(table, '/run/e/instances/i10'), ['/run/e/instances/i10/root'], 'a longer name is another folder');
  t.same(mountsBelow(table, String.raw`/run/e/instances/odd name\x`), [String.raw`/run/e/instances/odd name\x/root`], 'octal escapes are read');
  t.same(mountsBelow(table, '/run/e/instances/nobody'), []);
  t.same(mountsBelow('', '/run'), []);
});

t.test('the layers of an overlay', async (t) => {
  const overlay = (options: string): string => `${table}31 22 0:31 / /run/e/instances/i2/root rw,nodev - overlay edgepoint-root rw,${options}`;
  t.same(layersOf(overlay('lowerdir=/a/disk:/b:/c,upperdir=/d,workdir=/e,xino=on'), '/run/e/instances/i2/root'), ['/a/disk', '/b', '/c']);
  t.same(layersOf(overlay(String.raw`upperdir=/d,lowerdir=/odd\040name:/b`), '/run/e/instances/i2/root'), ['/odd name', '/b'], 'octal escapes are read');
  t.same(layersOf(table, '/run/e/instances/i1/private'), [], 'a tmpfs has none');
  t.same(layersOf(table, '/run/e/instances/i10/root'), [], 'without the option');
  t.same(layersOf(table, '/nowhere'), []);
});
