import dgram from 'node:dgram';
import { ignoreIcmpErrors } from './icmp.ts';
import { cannotListen } from './listen.ts';
import type { Place } from './listen.ts';

export interface UdpSocket {
  readonly address: string;
  stop(): void;
}

const receiveBufferBytes = 4 * 1024 * 1024;

/**
 * Answers datagrams at one place. `respond` must not throw; null sends nothing. `onError` hears of what went wrong with a single
 * datagram or the socket; neither ends the service.
 */
export async function openUdp(
  place: Place,
  respond: (message: Uint8Array, address: string) => Uint8Array | null,
  onError: (thrown: unknown) => void,
): Promise<UdpSocket> {
  const socket = dgram.createSocket(place.family === 4 ? { type: 'udp4' } : { type: 'udp6', ipv6Only: true });
  const where = place.kind === 'address' ? `${place.host} port ${place.port}` : `descriptor ${place.descriptor}`;
  await new Promise<void>((resolve, reject) => {
    socket.once('error', (error) => reject(cannotListen('UDP', where, error)));
    const bound = (): void => resolve();
    if (place.kind === 'address') socket.bind(place.port, place.host, bound);
    else socket.bind({ fd: place.descriptor }, bound);
  });
  socket.removeAllListeners('error');
  socket.on('error', onError);
  ignoreIcmpErrors();
  try {
    socket.setRecvBufferSize(receiveBufferBytes);
  } catch (thrown) {
    onError(thrown);
  }
  socket.on('message', (message, from) => {
    const response = respond(message, from.address);
    if (response === null) return;
    try {
      socket.send(response, from.port, from.address, (error) => {
        if (error) onError(error);
      });
    } catch (thrown) {
      onError(thrown);
    }
  });
  const { address, port } = socket.address();
  return { address: place.family === 4 ? `${address}:${port}` : `[${address}]:${port}`, stop: () => socket.close() };
}
