import { dlopen, ptr } from 'bun:ffi';
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { Failure, codeOf } from '../../kit/errors.ts';

/** openat2(2): the same number on every architecture since Linux 5.6. */
const openat2Number = 437;
/** linux/openat2.h */
const resolveNoSymlinks = 0x04n;
const resolveBeneath = 0x08n;
/** linux/falloc.h */
const keepSizeAndPunchHole = 0x01 | 0x02;
const oPath = 0o10000000;
const oCloexec = 0o2000000;

const libc = dlopen('libc.so.6', {
  syscall: { args: ['i64', 'i64', 'ptr', 'ptr', 'u64'], returns: 'i64' },
  fallocate: { args: ['i32', 'i32', 'i64', 'i64'], returns: 'i32' },
}).symbols;

function openBeneath(folder: number, path: string, flags: number): number {
  const how = new BigUint64Array([BigInt(flags | oCloexec), 0n, resolveNoSymlinks | resolveBeneath]);
  const name = Buffer.from(`${path}\0`);
  return Number(libc.syscall(openat2Number, folder, ptr(name), ptr(how), how.byteLength));
}

/** `/proc/PID/root/var/log` is `/proc/PID/root` and `var/log`; any other path begins at `/`. */
function rootOf(path: string): [root: string, rest: string] {
  const match = /^(\/proc\/(?:\d+|self)\/root)\/+(.*)$/.exec(path);
  return match ? [match[1] ?? '/', match[2] ?? ''] : ['/', path.replace(/^\/+/, '')];
}

export interface LogFile {
  readonly fd: number;
  /** Whether this process may free what it has read. */
  readonly writable: boolean;
}

/**
 * Opens an instance's log. The file lies where the app may write: it can be exchanged for a link to a file of the machine or for a
 * pipe that never ends, so no link on the way is followed and only a regular file is taken. Throws Failure `log-unreadable`.
 */
export function openLogFile(path: string): LogFile {
  const [root, rest] = rootOf(path);
  let folder: number;
  try {
    folder = openSync(root, oPath | constants.O_DIRECTORY);
  } catch (cause) {
    throw new Failure('log-unreadable', `the root ${root} of the log ${path} cannot be opened: ${codeOf(cause)}`, { cause });
  }
  try {
    let writable = true;
    let fd = openBeneath(folder, rest, constants.O_RDWR | constants.O_NONBLOCK);
    if (fd < 0) {
      writable = false;
      fd = openBeneath(folder, rest, constants.O_RDONLY | constants.O_NONBLOCK);
    }
    if (fd < 0) throw new Failure('log-unreadable', `the log ${path} cannot be opened, or is reached through a link`);
    if (fstatSync(fd).isFile()) return { fd, writable };
    closeSync(fd);
    throw new Failure('log-unreadable', `the log ${path} is not a regular file`);
  } finally {
    closeSync(folder);
  }
}

/** Gives the space of a part of a file back, keeping its size (fallocate(2), FALLOC_FL_PUNCH_HOLE). False where the file system cannot. */
export function punchHole(fd: number, offset: number, bytes: number): boolean {
  return libc.fallocate(fd, keepSizeAndPunchHole, offset, bytes) === 0;
}
