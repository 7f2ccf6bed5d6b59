/** What is on an accepted socket: a handshake, or a connection of clients' requests. The socket's events lead here. */
export interface Served {
  data(bytes: Buffer): void;
  /** The socket takes bytes again. */
  drained(): void;
  /** The client ended its side. */
  end(): void;
  /** The socket is closed. */
  gone(): void;
  /** Closes it at once. */
  cut(): void;
  /** Time-outs. */
  check(nowMs: number): void;
  /** The dispatcher stops: idle connections close, busy ones after what is under way. `fresh`: also those that have not asked yet. */
  stop(fresh: boolean): void;
  readonly isTunnel: boolean;
}
