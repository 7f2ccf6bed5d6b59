import { writeSync } from 'node:fs';
import type { Socket } from 'bun';
import type { CertificateSource } from './certificate-folder.ts';
import type { Certificate } from './certificates.ts';
import { limits } from '../limits.ts';
import type { Served } from '../served.ts';

/** Fatal alert `unrecognized_name` in a record of its own (RFC 8446, sections 5.1 and 6.2; RFC 6066, section 3). */
const unrecognizedName = Buffer.from([21, 3, 3, 0, 2, 2, 112]);

export type HandshakeOutcome = 'done' | 'failed' | 'unknown-name' | 'refused';

/** A socket on which no handshake is done yet: it carries no request, and is cut when it takes too long. */
export class Handshake implements Served {
  /** What answers for the name that the client asked for; null until it has asked. */
  certificate: Certificate | null = null;
  outcome: HandshakeOutcome = 'failed';
  readonly isTunnel = false;
  private readonly socket: Socket<Served>;
  private readonly sinceMs: number;
  private readonly onGone: (handshake: Handshake) => void;
  private over = false;

  constructor(of: { socket: Socket<Served>; nowMs: number; onGone: (handshake: Handshake) => void }) {
    this.socket = of.socket;
    this.sinceMs = of.nowMs;
    this.onGone = of.onGone;
  }

  data(): void {}

  drained(): void {}

  /** A client that ends its side before it has asked anything wants nothing. */
  end(): void {
    this.cut();
  }

  gone(): void {
    if (this.over) return;
    this.over = true;
    this.onGone(this);
  }

  cut(): void {
    if (this.over) return;
    this.gone();
    this.socket.terminate();
  }

  check(nowMs: number): void {
    if (nowMs - this.sinceMs >= limits.handshakeMs) this.cut();
  }

  /** Handshakes under way may end; what comes after them is told that the dispatcher stops. */
  stop(fresh: boolean): void {
    if (fresh) this.cut();
  }
}

/** The part of Bun's native context that goes from `createSecureContext` to the `serverName` handler. */
type NativeContext = object;

/** Contexts of certificates that were asked for; each lives as long as its certificate is in the table. */
const contexts = new WeakMap<Certificate, NativeContext>();

function contextOf(certificate: Certificate): NativeContext {
  const known = contexts.get(certificate);
  if (known !== undefined) return known;
  // Loaded with the first certificate that is asked for.
  const { createSecureContext } = process.getBuiltinModule('node:tls');
  const made = createSecureContext({ cert: certificate.chain, key: certificate.key, minVersion: 'TLSv1.2' }).context as NativeContext;
  contexts.set(certificate, made);
  return made;
}

/**
 * Bun's `serverName` handler: called with each ClientHello that names a host, it gives the context to answer with, or an Error to break
 * off. Bun breaks off without a word, so the alert is written here: nothing has been sent on that socket yet, and alerts of this stage are
 * not encrypted.
 */
export function chooseByName(source: CertificateSource, name: string, socket: Socket<Served>): NativeContext | Error {
  const certificate = source.table.find(name.toLowerCase());
  const handshake = socket.data;
  if (certificate === null) {
    if (handshake instanceof Handshake) handshake.outcome = 'unknown-name';
    sayUnrecognized(socket);
    return new Error('no certificate covers that name');
  }
  if (handshake instanceof Handshake) handshake.certificate = certificate;
  return contextOf(certificate);
}

function sayUnrecognized(socket: Socket<Served>): void {
  try {
    writeSync((socket as unknown as { fd: number }).fd, unrecognizedName);
  } catch {
    // The client is gone already; there is nobody to tell.
  }
}
