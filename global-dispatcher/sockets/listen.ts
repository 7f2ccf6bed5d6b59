import { readFileSync, readlinkSync } from 'node:fs';
import { Failure, messageOf } from '../../kit/errors.ts';
import { formatAddress } from '../address.ts';

/** Where to listen: an address to bind, or a socket that is bound already and was handed down as a file descriptor. */
export type Place =
  | { readonly kind: 'address'; readonly host: string; readonly port: number; readonly family: 4 | 6 }
  | { readonly kind: 'descriptor'; readonly host: string; readonly descriptor: number; readonly protocol: 'udp' | 'tcp'; readonly family: 4 | 6 };

/** `192.0.2.1:53` or `[2001:db8::1]:53`. */
export function parsePlace(text: string): Place {
  const bracketed = /^\[([0-9a-fA-F:.]+)\]:(\d{1,5})$/.exec(text);
  const plain = /^(\d+\.\d+\.\d+\.\d+):(\d{1,5})$/.exec(text);
  const [, host = '', portText = ''] = bracketed ?? plain ?? [];
  const port = Number(portText);
  if (host === '' || port > 65_535) {
    throw new Failure('bad-listen', `"${text}" is no place to listen on`, { remedy: 'Write an address and a port: 192.0.2.1:53 or [2001:db8::1]:53.' });
  }
  return { kind: 'address', host, port, family: bracketed === null ? 4 : 6 };
}

/** What an inherited descriptor is, from the kernel's socket tables (proc(5), /proc/net/{udp,udp6,tcp,tcp6}). */
export function inheritedPlace(descriptor: number): Place {
  const remedy = 'Every number in listenFds must be a bound UDP socket or a listening TCP socket that the parent process handed down.';
  let link: string;
  try {
    link = readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch (thrown) {
    throw new Failure('bad-descriptor', `descriptor ${descriptor} is not open: ${messageOf(thrown)}`, { remedy, cause: thrown });
  }
  const inode = /^socket:\[(\d+)\]$/.exec(link)?.[1];
  const tables = [['udp', 4, 'udp'], ['udp', 6, 'udp6'], ['tcp', 4, 'tcp'], ['tcp', 6, 'tcp6']] as const;
  for (const [protocol, family, file] of tables) {
    // The second column is the local address and port, the tenth the inode.
    const rows = readFileSync(`/proc/self/net/${file}`, 'utf8').split('\n').map((row) => row.trim().split(/\s+/));
    const row = inode === undefined ? undefined : rows.find((columns) => columns[9] === inode);
    if (row !== undefined) return { kind: 'descriptor', host: kernelAddress(row[1]?.split(':')[0] ?? ''), descriptor, protocol, family };
  }
  throw new Failure('bad-descriptor', `descriptor ${descriptor} is ${link}, not a bound socket`, { remedy });
}

/** The kernel prints addresses as 32-bit words in its own byte order, which is little-endian wherever Bun runs. */
function kernelAddress(hex: string): string {
  const bytes = Buffer.from(hex, 'hex');
  for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.subarray(at, at + 4).reverse();
  return formatAddress(bytes);
}

/** The failure of a place that cannot be opened, with what to do. */
export function cannotListen(protocol: string, where: string, thrown: unknown): Failure {
  const message = messageOf(thrown);
  const remedy = /EACCES|permission/i.test(message)
    ? 'Ports below 1024 need CAP_NET_BIND_SERVICE, or inherited sockets (listenFds).'
    : /EADDRINUSE|in use/i.test(message)
      ? 'Another process has this port; stop it or listen elsewhere.'
      : 'See whether the address is one of this machine.';
  return new Failure('cannot-listen', `cannot listen on ${where} (${protocol}): ${message}`, { remedy, cause: thrown });
}
