import { dlopen } from 'bun:ffi';
import { closeSync, mkdirSync, openSync, readdirSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { statfs } from 'node:fs/promises';
import { Failure } from '../../kit/errors.ts';
import { nsPerMs } from '../../kit/units.ts';
import type { Clock } from '../../kit/clock.ts';

const libc = dlopen('libc.so.6', { flock: { args: ['i32', 'i32'], returns: 'i32' } }).symbols;
const alone = 2 | 4; // LOCK_EX | LOCK_NB (flock(2))
/** A box that mounts the image has the lock for a moment. */
const lockWaitMs = 10_000;
const lockLookMs = 5;
/** So long may writers wait for a copy; then it is given up. */
const frozenMsMax = 60_000;
/** Nothing else that is called here takes long, but on a disk that is overwhelmed. */
const callMsMax = 120_000;
const wordsMax = 500;

/**
 * Images of volumes, which instances may have mounted from a loop device. What is done to a mounted one is done through a mount of its own, so that
 * no path of an instance is followed: mount points lie in `mounts`, and one that is found there at a start was left by a kill.
 */
export class VolumeImages {
  private readonly mounts: string;
  private readonly clock: Clock;

  constructor(mounts: string, clock: Clock) {
    this.mounts = mounts;
    this.clock = clock;
    mkdirSync(mounts, { recursive: true, mode: 0o700 });
  }

  /** A killed snapd's copies end here: what it froze thaws when it dies (below), or now. */
  async recover(): Promise<void> {
    for (const name of readdirSync(this.mounts)) {
      const folder = join(this.mounts, name);
      await run(['fsfreeze', '-u', folder]).catch(() => undefined);
      await run(['umount', folder]).catch(() => undefined);
      rmdirSync(folder);
    }
  }

  /**
   * Copies an image as it is at one moment: a mounted file system is frozen meanwhile (FIFREEZE, ioctl_fsfreeze(2)), which writes out all it
   * holds; writers wait, readers do not. What was deleted is not copied, for its blocks are given back before (fstrim(8)).
   */
  async copy(image: string, target: string): Promise<{ frozenMs: number; copyMs: number }> {
    return locked(image, async () => {
      const beganNs = this.clock.bootNs();
      const copy = async (): Promise<void> => void (await run(['cp', '--reflink=auto', '--sparse=auto', '--', image, target], frozenMsMax));
      const frozenMs = await this.mounted(image, copy, async (folder) => {
        // Whoever cannot give blocks back has a bigger copy. What is written out beforehand need not be written while writers wait.
        await run(['fstrim', folder]).catch(() => undefined);
        await run(['sync', '-f', folder]);
        return this.frozen(folder, copy);
      });
      return { frozenMs: frozenMs ?? 0, copyMs: (this.clock.bootNs() - beganNs) / nsPerMs };
    });
  }

  /** Bytes of the file system: what it has, and what is free of it; null when there is no image. */
  async use(image: string): Promise<{ sizeBytes: number; freeBytes: number } | null> {
    try {
      statSync(image);
    } catch {
      return null;
    }
    const spaceOf = async (folder: string): Promise<{ sizeBytes: number; freeBytes: number }> => {
      const { blocks, bavail, bsize } = await statfs(folder);
      return { sizeBytes: blocks * bsize, freeBytes: bavail * bsize };
    };
    return this.mounted(image, () => superblockSpace(image), spaceOf);
  }

  /** Whether an instance has it, or had it a moment ago. */
  async inUse(image: string): Promise<boolean> {
    return (await loopDevice(image)) !== null;
  }

  private async mounted<T, Else>(image: string, otherwise: () => Promise<Else>, work: (folder: string) => Promise<T>): Promise<T | Else> {
    const device = await loopDevice(image);
    if (device === null) return otherwise();
    const folder = join(this.mounts, `${process.pid}-${(count += 1)}`);
    mkdirSync(folder, { mode: 0o700 });
    try {
      await run(['mount', '-t', 'ext4', '-o', 'nodev,nosuid,noexec', device, folder]);
      try {
        return await work(folder);
      } finally {
        await run(['umount', folder]);
      }
    } finally {
      rmdirSync(folder);
    }
  }

  /** Thaws whatever happens: it is done by a process that ends when we do, for its input ends with us. Returns for how long it was frozen. */
  private async frozen(folder: string, work: () => Promise<void>): Promise<number> {
    const script = 'fsfreeze -f "$1" || exit 1; echo frozen; read _; fsfreeze -u "$1"';
    const fromNs = this.clock.bootNs();
    const keeper = Bun.spawn(['sh', '-c', script, 'sh', folder], { stdin: 'pipe', stdout: 'pipe', stderr: 'pipe' });
    const reader = keeper.stdout.getReader();
    const said = await reader.read();
    if (said.done) throw new Failure('volume-busy', `the volume cannot be held still: ${(await new Response(keeper.stderr).text()).slice(-wordsMax).trim()}`);
    try {
      await work();
    } finally {
      await keeper.stdin.end();
      if ((await keeper.exited) !== 0) await run(['fsfreeze', '-u', folder]);
    }
    return (this.clock.bootNs() - fromNs) / nsPerMs;
  }
}

let count = 0;

/** The box takes this lock while it looks for the image's device or makes one (edgepoint/box/mounts.c). */
export async function locked<T>(image: string, work: () => Promise<T>): Promise<T> {
  const fd = openSync(image, 'r');
  try {
    for (let waitedMs = 0; libc.flock(fd, alone) !== 0; waitedMs += lockLookMs) {
      if (waitedMs >= lockWaitMs) throw new Failure('volume-busy', 'the volume is being mounted, or copied already', { remedy: 'Try again in a moment.' });
      await new Promise((resolve) => setTimeout(resolve, lockLookMs));
    }
    return await work();
  } finally {
    closeSync(fd);
  }
}

async function loopDevice(image: string): Promise<string | null> {
  const [device = ''] = (await run(['losetup', '-n', '-O', 'NAME', '-j', image])).split('\n');
  return device.trim() === '' ? null : device.trim();
}

/** Of ext4 that nobody has mounted: counted in its superblock when it was last unmounted (fs/ext4/ext4.h). */
async function superblockSpace(image: string): Promise<{ sizeBytes: number; freeBytes: number }> {
  const block = Buffer.from(await Bun.file(image).slice(1024, 2048).arrayBuffer());
  if (block.length < 1024 || block.readUInt16LE(0x38) !== 0xef53) throw new Failure('volume-spoilt', 'the volume is no ext4');
  const wide = (block.readUInt32LE(0x60) & 0x80) !== 0;
  const long = (low: number, high: number): number => block.readUInt32LE(low) + (wide ? block.readUInt32LE(high) * 2 ** 32 : 0);
  const blockBytes = 1024 << block.readUInt32LE(0x18);
  // As statfs(2) has it: without what the file system holds for itself.
  return { sizeBytes: (long(0x04, 0x150) - block.readUInt32LE(0x248)) * blockBytes, freeBytes: long(0x0c, 0x158) * blockBytes };
}

async function run(argv: readonly string[], timeoutMs = callMsMax): Promise<string> {
  const child = Bun.spawn([...argv], { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe', timeout: timeoutMs, killSignal: 'SIGKILL', env: { ...process.env, LC_ALL: 'C' } });
  const [said, complaint, status] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  if (status === 0) return said;
  const why = complaint.slice(-wordsMax).trim();
  if (why.includes('No space left')) throw new Failure('disk-full', 'the disk of the edgepoint is full');
  throw new Failure('volume-busy', `${argv[0] ?? ''} ended with ${status}: ${why}`);
}
