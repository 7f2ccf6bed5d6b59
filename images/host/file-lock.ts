import { closeSync, openSync } from 'node:fs';
import { dlopen, FFIType } from 'bun:ffi';

const libc = dlopen('libc.so.6', { flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } });
// <sys/file.h>
const lockExclusive = 2;
const lockNonBlocking = 4;

/**
 * Takes flock(2) on a file (made when absent), waiting as long as another process holds it; `onWait` is called once when it has to.
 * The kernel releases it when the holder dies. The descriptor is close-on-exec, so children do not keep the lock.
 */
export async function withFileLock<T>(path: string, onWait: () => void, work: () => Promise<T>): Promise<T> {
  const descriptor = openSync(path, 'a', 0o600);
  try {
    let waited = false;
    while (libc.symbols.flock(descriptor, lockExclusive | lockNonBlocking) !== 0) {
      if (!waited) onWait();
      waited = true;
      await Bun.sleep(50);
    }
    return await work();
  } finally {
    closeSync(descriptor);
  }
}
