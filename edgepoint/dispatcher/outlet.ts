import type { Socket } from 'bun';
import { limits } from './limits.ts';

/** The part of a Bun socket that is written to. `write` gives how many bytes the kernel took, -1 when the socket is closed. */
export type WritableSocket = Pick<Socket<unknown>, 'write' | 'shutdown'>;

/**
 * The writing side of a socket: what the kernel does not take at once is queued and leaves when the socket drains. Whoever writes
 * stops its source while `blocked`, so the queue never holds more than one read of the other side.
 *
 * Modes: flowing <-> held (a parked tunnel: nothing may be written) ; either -> closed.
 */
export class Outlet {
  private queue: Buffer[] = [];
  private socket: WritableSocket | null = null;
  private held = false;
  private shutWhenEmpty = false;
  private shut = false;
  private readonly onEmpty: () => void;
  queuedBytes = 0;
  /** Bytes the kernel took. */
  writtenBytes = 0;

  constructor(onEmpty: () => void) {
    this.onEmpty = onEmpty;
  }

  get blocked(): boolean {
    return this.queue.length > 0;
  }

  attach(socket: WritableSocket): void {
    this.socket = socket;
  }

  /** False when something had to be queued: stop the source until `onEmpty`. */
  write(bytes: Buffer): boolean {
    if (this.shut || this.shutWhenEmpty || bytes.length === 0) return !this.blocked;
    if (this.blocked || this.held || this.socket === null) {
      this.push(bytes);
      return false;
    }
    const taken = this.socket.write(bytes);
    // A closed socket takes nothing ever again; its close event ends the exchange.
    if (taken < 0) return true;
    this.writtenBytes += taken;
    if (taken === bytes.length) return true;
    this.push(taken === 0 ? bytes : bytes.subarray(taken));
    return false;
  }

  /** Writes parts as one when they are small, so that they leave in one packet; gives their bytes. */
  writeAll(parts: readonly Buffer[]): number {
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    if (parts.length > 1 && bytes <= limits.joinedWriteBytes) this.write(Buffer.concat(parts, bytes));
    else for (const part of parts) this.write(part);
    return bytes;
  }

  /** Writes a head (latin-1) and what follows it as one when that is small; gives their bytes. */
  writeHead(head: string, parts: readonly Buffer[]): number {
    let bytes = head.length;
    for (const part of parts) bytes += part.length;
    if (bytes > limits.joinedWriteBytes) return this.writeAll([Buffer.from(head, 'latin1'), ...parts]);
    const whole = Buffer.allocUnsafe(bytes);
    let at = whole.write(head, 0, 'latin1');
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    this.write(whole);
    return bytes;
  }

  /** Writes what is queued; called when the socket drains. */
  flush(): void {
    if (this.held || this.socket === null || this.shut) return;
    const wasBlocked = this.blocked;
    while (this.queue.length > 0) {
      const bytes = this.queue[0];
      if (bytes === undefined) break;
      const taken = this.socket.write(bytes);
      if (taken < 0) {
        this.clear();
        return;
      }
      this.writtenBytes += taken;
      this.queuedBytes -= taken;
      if (taken < bytes.length) {
        if (taken > 0) this.queue[0] = bytes.subarray(taken);
        return;
      }
      this.queue.shift();
    }
    if (this.shutWhenEmpty) this.shutNow();
    if (wasBlocked) this.onEmpty();
  }

  /** Nothing is written until `release`; what comes is queued. */
  hold(): void {
    this.held = true;
  }

  release(): void {
    this.held = false;
    this.flush();
  }

  /** Sends FIN after what is queued. */
  shutdown(): void {
    if (this.shut || this.shutWhenEmpty) return;
    if (this.blocked || this.held) this.shutWhenEmpty = true;
    else this.shutNow();
  }

  get isShut(): boolean {
    return this.shut;
  }

  clear(): void {
    this.queue = [];
    this.queuedBytes = 0;
  }

  private shutNow(): void {
    this.shut = true;
    this.socket?.shutdown();
  }

  private push(bytes: Buffer): void {
    this.queue.push(bytes);
    this.queuedBytes += bytes.length;
  }
}
