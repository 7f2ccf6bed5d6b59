import { dlopen, read } from 'bun:ffi';
import type { FileCalls } from '../model/file-calls.ts';

const libc = dlopen('libc.so.6', {
  llistxattr: { args: ['ptr', 'ptr', 'u64'], returns: 'i64' },
  lgetxattr: { args: ['ptr', 'ptr', 'ptr', 'u64'], returns: 'i64' },
  lsetxattr: { args: ['ptr', 'ptr', 'ptr', 'u64', 'i32'], returns: 'i32' },
  mknod: { args: ['ptr', 'u32', 'u64'], returns: 'i32' },
  utimensat: { args: ['i32', 'ptr', 'ptr', 'i32'], returns: 'i32' },
  lseek: { args: ['i32', 'i64', 'i32'], returns: 'i64' },
  __errno_location: { args: [], returns: 'ptr' },
}).symbols;

const currentFolder = -100;
const linksNotFollowed = 0x100;
/** UTIME_OMIT: that time stays. */
const omit = 2n ** 30n - 2n;
const seekData = 3;
const seekHole = 4;
/** XATTR_LIST_MAX and XATTR_SIZE_MAX (xattr(7)). */
const xattrBytesMax = 65_536;
const noSuchRange = 6; // ENXIO: there is no data behind
const notSupported = 95;
const noXattr = 61; // ENODATA

const terminated = (text: Buffer | string): Buffer => Buffer.concat([Buffer.from(text), Buffer.from([0])]);

function errno(): number {
  const at = libc.__errno_location();
  return at === null ? 0 : read.i32(at);
}

function fail(call: string, path: Buffer): never {
  const number = errno();
  throw Object.assign(new Error(`${call} ${path.toString()}: errno ${number}`), number === 28 ? { code: 'ENOSPC' } : {});
}

/** The file calls of a Linux machine. */
export const fileCalls: FileCalls = {
  xattrs(path) {
    const names = Buffer.alloc(xattrBytesMax);
    const bytes = Number(libc.llistxattr(terminated(path), names, xattrBytesMax));
    if (bytes < 0) return errno() === notSupported ? [] : fail('llistxattr', path);
    return names
      .subarray(0, bytes)
      .toString('latin1')
      .split('\0')
      .filter((name) => name !== '')
      .flatMap((name) => {
        const value = Buffer.alloc(xattrBytesMax);
        const length = Number(libc.lgetxattr(terminated(path), terminated(name), value, xattrBytesMax));
        if (length < 0) return errno() === noXattr ? [] : fail(`lgetxattr ${name}`, path);
        return [[name, Buffer.from(value.subarray(0, length))] as const];
      });
  },
  setXattr(path, name, value) {
    // An empty value needs an address, too.
    if (libc.lsetxattr(terminated(path), terminated(name), Buffer.concat([value, Buffer.alloc(1)]), value.length, 0) !== 0) fail(`lsetxattr ${name}`, path);
  },
  makeNode(path, mode, device) {
    if (libc.mknod(terminated(path), mode, device) !== 0) fail('mknod', path);
  },
  setTime(path, changedNs) {
    const second = 1_000_000_000n;
    const seconds = changedNs >= 0n ? changedNs / second : -((-changedNs + second - 1n) / second);
    const times = new BigInt64Array([0n, omit, seconds, changedNs - seconds * second]);
    if (libc.utimensat(currentFolder, terminated(path), times, linksNotFollowed) !== 0) fail('utimensat', path);
  },
  dataRanges(fd, bytes) {
    const ranges: [number, number][] = [];
    for (let at = 0; at < bytes; ) {
      const from = Number(libc.lseek(fd, BigInt(at), seekData));
      if (from < 0) {
        if (errno() === noSuchRange) break;
        return [[0, bytes]]; // a file system that does not tell
      }
      const end = Math.min(bytes, Number(libc.lseek(fd, BigInt(from), seekHole)));
      if (end <= from) break;
      ranges.push([from, end - from]);
      at = end;
    }
    return ranges;
  },
};
