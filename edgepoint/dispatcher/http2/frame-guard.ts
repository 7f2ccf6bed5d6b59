import { endStreamFlag } from './codes.ts';
import { limits } from '../limits.ts';

const frameHeadBytes = 9;
const type = { data: 0, headers: 1, windowUpdate: 8, continuation: 9 } as const;
const prefaceBytes = 24;

/**
 * Follows the frames of one client beside the library, by their heads alone (RFC 9113, section 4.1), and counts those that carry nothing:
 * each costs work and none moves a request on (section 10.5). The library knows floods of its own; these are what it lets pass.
 */
export class Http2FrameGuard {
  /** Bytes to pass over before the next frame's head: the preface, then payloads. */
  private skip = prefaceBytes;
  private readonly head = Buffer.alloc(frameHeadBytes);
  private headBytes = 0;
  private continuations = 0;
  private left: number = limits.http2EmptyFrames;
  private atMs: number;

  constructor(nowMs: number) {
    this.atMs = nowMs;
  }

  /** '' or why this client is sent away. */
  see(bytes: Buffer, nowMs: number): '' | 'continuations' | 'empty-frames' {
    this.left = Math.min(limits.http2EmptyFrames, this.left + ((nowMs - this.atMs) * limits.http2EmptyFramesPerSecond) / 1000);
    this.atMs = nowMs;
    for (let at = 0; at < bytes.length; ) {
      if (this.skip > 0) {
        const passed = Math.min(this.skip, bytes.length - at);
        this.skip -= passed;
        at += passed;
        continue;
      }
      this.head[this.headBytes] = bytes[at] ?? 0;
      this.headBytes += 1;
      at += 1;
      if (this.headBytes < frameHeadBytes) continue;
      this.headBytes = 0;
      const refusal = this.count();
      if (refusal !== '') return refusal;
    }
    return '';
  }

  private count(): '' | 'continuations' | 'empty-frames' {
    const [kind = 0, flags = 0] = [this.head[3], this.head[4]];
    this.skip = this.head.readUIntBE(0, 3);
    this.continuations = kind === type.continuation ? this.continuations + 1 : 0;
    if (this.continuations > limits.http2Continuations) return 'continuations';
    const carries = kind === type.headers || kind === type.windowUpdate || kind === type.continuation || (kind === type.data && (this.skip > 0 || (flags & endStreamFlag) !== 0));
    if (!carries) this.left -= 1;
    return this.left < 0 ? 'empty-frames' : '';
  }
}
