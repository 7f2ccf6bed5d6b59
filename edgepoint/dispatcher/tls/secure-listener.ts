import type { Socket, SocketHandler } from 'bun';
import { codeOf } from '../../../kit/errors.ts';
import { networkOf, plainAddress } from '../client-address.ts';
import type { CertificateSource } from './certificate-folder.ts';
import type { Certificate } from './certificates.ts';
import { chooseByName, Handshake } from './handshake.ts';
import { HandshakeGate } from './handshake-gate.ts';
import { limits } from '../limits.ts';
import type { Served } from '../served.ts';

export interface SecureOptions {
  readonly certificates: CertificateSource;
  readonly nowMs: () => number;
  /** Handshakes one network may begin in each second, in the long run; ten times as many in a burst. */
  readonly handshakesPerSecond: number;
  /** A handshake began, or is over with its `outcome`. */
  began(handshake: Handshake): void;
  over(handshake: Handshake): void;
  /** A handshake is done: gives what serves the socket from now on. */
  accept(socket: Socket<Served>, certificate: Certificate, protocol: string): Served;
}

/** ALPN protocol names, each after its length (RFC 7301, section 3.1), by preference. */
export const protocolList = (names: readonly string[]): Buffer => Buffer.concat(names.map((name) => Buffer.from(`${String.fromCharCode(name.length)}${name}`, 'latin1')));

/** Bun's socket handler as it is; its types leave out the name of a ClientHello. */
interface SecureSocketHandler extends SocketHandler<Served> {
  serverName(listenerData: unknown, name: string, socket: Socket<Served>): object | Error;
}

/** The events of a listener that speaks TLS: a handshake first, within bounds; then those of `common`. */
export function secureHandlers(common: SocketHandler<Served>, options: SecureOptions): SocketHandler<Served> {
  const { handshakesPerSecond: perSecond } = options;
  const gate = new HandshakeGate({ inAll: limits.handshakes, perNetwork: limits.handshakesPerNetwork, burst: perSecond * 10, perSecond, networks: limits.handshakeNetworks });
  const begin = (socket: Socket<Served>): void => {
    const network = networkOf(plainAddress(socket.remoteAddress));
    const nowMs = options.nowMs();
    const refusal = gate.enter(network, nowMs);
    const onGone = (gone: Handshake): void => {
      if (refusal === '') gate.leave(network);
      options.over(gone);
    };
    const handshake = new Handshake({ socket, nowMs, onGone });
    socket.data = handshake;
    socket.setNoDelay(true);
    options.began(handshake);
    if (refusal === '') return;
    handshake.outcome = 'refused';
    handshake.cut();
  };
  const finish = (socket: Socket<Served>, done: boolean): void => {
    const handshake = socket.data;
    if (!(handshake instanceof Handshake)) return;
    const { certificate } = handshake;
    if (!done || certificate === null) return handshake.cut();
    handshake.outcome = 'done';
    handshake.gone();
    socket.data = options.accept(socket, certificate, `${socket.alpnProtocol || ''}`);
  };
  const handlers: SecureSocketHandler = {
    ...common,
    open: begin,
    handshake: finish,
    serverName: (_, name, socket) => chooseByName(options.certificates, name, socket),
    error: (socket, error) => (isPeersFault(error) ? socket.data?.cut() : common.error?.(socket, error)),
  };
  return handlers;
}

/** A record that does not decrypt, an alert: what the client sent is not what it agreed on. */
const isPeersFault = (error: Error): boolean => /^(ERR_SSL|EPROTO|ECONNRESET)/.test(codeOf(error));
