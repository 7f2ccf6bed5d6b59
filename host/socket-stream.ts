import type { Socket } from 'node:net';
import { codeOf, messageOf } from '../kit/errors.ts';
import { ReceiveWindow, SendWindow } from '../kit/flow.ts';
import { dataBytesMax } from '../kit/wire/access.ts';
import type { AccessClose, AccessFrame } from '../kit/wire/access.ts';

export interface SocketStreamPorts {
  /** Frames of kind data, credit, end and close. */
  send(frame: AccessFrame): void;
  /** Called for bytes of either way; in so many milliseconds the next may come. */
  pace?(bytes: number): number;
  /** Bytes that went to the socket, and that came from it. */
  counted?(toSocket: number, fromSocket: number): void;
  /** Called once, with how it ended; no frame is sent or taken any more. */
  over(close: AccessClose): void;
}

/**
 * One end of an access: a socket (opened with allowHalfOpen) on this side, frames on the other. Back pressure and half-close go both ways.
 *
 * Modes: flowing -> over. What has been read of the socket and not been sent yet is one read of it at most: it is not read meanwhile.
 */
export class SocketStream {
  readonly #socket: Socket;
  readonly #ports: SocketStreamPorts;
  readonly #sending = new SendWindow();
  readonly #receiving = new ReceiveWindow();
  #unsent: Buffer | null = null;
  #readEnded = false;
  #endSent = false;
  /** The socket is closed; what was read of it may still have to be sent. */
  #closed = false;
  #over = false;
  #timer: ReturnType<typeof setTimeout> | null = null;

  constructor(socket: Socket, ports: SocketStreamPorts) {
    this.#socket = socket;
    this.#ports = ports;
    socket.on('data', (bytes: Buffer) => {
      this.#unsent = this.#unsent === null ? bytes : Buffer.concat([this.#unsent, bytes]);
      socket.pause();
      ports.counted?.(0, bytes.length);
      const waitMs = ports.pace?.(bytes.length) ?? 0;
      if (waitMs < 1) return this.#flush();
      this.#timer = setTimeout(() => {
        this.#timer = null;
        this.#flush();
      }, waitMs);
    });
    socket.once('end', () => {
      this.#readEnded = true;
      this.#flush();
    });
    socket.once('error', (error) => this.#finish({ code: 'access-reset', text: `the connection broke: ${codeOf(error) === 'unexpected' ? messageOf(error) : codeOf(error)}` }, true));
    socket.once('close', () => {
      this.#closed = true;
      this.#flush();
    });
  }

  /** A frame of the other end. */
  take(frame: AccessFrame): void {
    if (this.#over) return;
    if (frame.kind === 'data') return this.#write(frame.bytes);
    if (frame.kind === 'credit') return this.#sending.credit(frame.bytes) ? this.#flush() : this.#broken();
    if (frame.kind === 'end') return void this.#socket.end();
    if (frame.kind === 'close') this.#finish(frame.close, false);
  }

  /** Ends it from this side. */
  cut(close: AccessClose): void {
    this.#finish(close, true);
  }

  #write(bytes: Uint8Array): void {
    if (!this.#receiving.receive(bytes.length)) return this.#broken();
    this.#ports.counted?.(bytes.length, 0);
    this.#socket.write(bytes, () => {
      if (this.#over) return;
      const waitMs = this.#ports.pace?.(bytes.length) ?? 0;
      if (waitMs < 1) this.#passedOn(bytes.length);
      else setTimeout(() => this.#passedOn(bytes.length), waitMs);
    });
  }

  #passedOn(bytes: number): void {
    const credit = this.#receiving.passOn(bytes);
    if (credit > 0 && !this.#over) this.#ports.send({ kind: 'credit', bytes: credit });
  }

  #broken(): void {
    this.#finish({ code: 'access-broken', text: 'more came than was asked for' }, true);
  }

  /** Sends what may be sent, and then says what has ended. */
  #flush(): void {
    if (this.#over || this.#timer !== null) return;
    while (this.#unsent !== null) {
      const bytes = this.#unsent.subarray(0, Math.min(dataBytesMax, this.#sending.left));
      if (bytes.length === 0) return;
      this.#sending.spend(bytes.length);
      this.#unsent = bytes.length === this.#unsent.length ? null : this.#unsent.subarray(bytes.length);
      this.#ports.send({ kind: 'data', bytes });
      if (this.#over) return;
    }
    if (this.#readEnded && !this.#endSent) {
      this.#endSent = true;
      this.#ports.send({ kind: 'end' });
    }
    if (this.#closed) this.#finish({ code: '', text: '' }, true);
    else if (!this.#readEnded) this.#socket.resume();
  }

  #finish(close: AccessClose, tell: boolean): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (tell) this.#ports.send({ kind: 'close', close });
    // An end that is none must not look like one to whoever reads the socket.
    if (close.code !== '') this.#socket.resetAndDestroy();
    else if (!this.#closed) {
      this.#socket.resume();
      this.#socket.end(() => this.#socket.destroy());
    }
    this.#ports.over(close);
  }
}
