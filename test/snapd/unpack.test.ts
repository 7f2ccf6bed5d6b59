import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { tools } from '../../host/tools.ts';
import { imageFirstUid } from '../../edgepoint/model/calls.ts';

t.setTimeout(120_000);

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-unpack-'));
  chmodSync(folder, 0o755);
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const unpack = (target: string, command: readonly string[]) => spawnSync(tools.box, ['unpack', target, `${imageFirstUid}`, ...command], { encoding: 'utf8' });

t.test('what unpacks an image can write to its folder and nowhere else, and has no network', (t) => {
  const folder = folderOf(t);
  const outside = join(folder, 'outside');
  mkdirSync(outside);
  chmodSync(outside, 0o777);
  const target = join(folder, 'target');
  const script = `
    echo in > ${target}/in
    chown 5:6 ${target}/in
    (echo out > ${outside}/out) 2>/dev/null && echo wrote
    (echo out > /tmp/edgepoint-unpack-out) 2>/dev/null && echo wrote in tmp
    mount -t tmpfs none ${target} 2>/dev/null && echo mounted
    mount -o remount,rw,bind / 2>/dev/null && echo remounted
    mknod ${target}/device b 7 0 2>/dev/null && echo made a device
    cat /proc/net/dev | grep -v 'lo:' | grep ':' && echo has a network
    kill -0 ${process.pid} 2>/dev/null && echo sees others
    exit 7`;
  const ran = unpack(target, ['sh', '-c', script]);
  t.equal(ran.status, 7, ran.stderr);
  t.equal(ran.stdout, '');
  t.notOk(existsSync(join(outside, 'out')));
  t.equal(readFileSync(join(target, 'in'), 'utf8'), 'in\n');
  t.match(lstatSync(join(target, 'in')), { uid: imageFirstUid + 5, gid: imageFirstUid + 6 });
  t.not(unpack(target, ['true']).status, 0, 'nor into a folder that is there already');
  t.end();
});

t.test('a link of one layer leads a file of the next nowhere', (t) => {
  const folder = folderOf(t);
  const [layout, first, second, outside] = ['layout', 'first', 'second', 'outside'].map((name) => join(folder, name)) as [string, string, string, string];
  for (const path of [first, join(second, 'evil'), outside]) mkdirSync(path, { recursive: true });
  chmodSync(outside, 0o777);
  symlinkSync(`../../../../../../../..${outside}`, join(first, 'evil'));
  writeFileSync(join(second, 'evil/file'), 'x');
  // As tar's own layers, whose second has no entry for the folder itself.
  const tar = (from: string, name: string): void => void execFileSync('tar', ['-C', from, '-cf', join(folder, name), name === 'two.tar' ? 'evil/file' : 'evil']);
  tar(first, 'one.tar');
  tar(second, 'two.tar');
  const umoci = (...words: string[]): void => void execFileSync('umoci', words, { stdio: 'pipe' });
  umoci('init', '--layout', layout);
  umoci('new', '--image', `${layout}:image`);
  for (const name of ['one.tar', 'two.tar']) umoci('raw', 'add-layer', '--image', `${layout}:image`, join(folder, name));
  execFileSync('chmod', ['-R', 'a+rX', layout]);
  const target = join(folder, 'target');
  const ran = unpack(target, ['umoci', 'raw', 'unpack', '--image', `${layout}:image`, join(target, 'root')]);
  t.notOk(existsSync(join(outside, 'file')), 'nothing was written outside');
  t.equal(ran.status, 0, ran.stderr);
  t.ok(existsSync(join(target, 'root', outside, 'file')), 'it lies where the link leads inside the root');
  t.end();
});
