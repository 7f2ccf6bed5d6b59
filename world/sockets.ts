import { closeSync, openSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { dlopen, FFIType, ptr, read } from 'bun:ffi';
import { parseRange } from '../kit/address-range.ts';
import { Failure } from '../kit/errors.ts';

const libc = dlopen('libc.so.6', {
  setns: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  setsockopt: { args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  bind: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  listen: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  __errno_location: { args: [], returns: FFIType.ptr },
});

// <sched.h>, <sys/socket.h>, <netinet/in.h> of Linux.
const cloneNewnet = 0x40000000;
const family = { ipv4: 2, ipv6: 10 } as const;
const socketType = { tcp: 1, udp: 2 } as const;
const socketCloseOnExec = 0o2000000;
const socketNonBlocking = 0o4000;
const solSocket = 1;
const reuseAddress = 2;
const receiveBuffer = 8;
const protocolIpv6 = 41;
const ipv6Only = 26;

/** As many as the kernel takes (net.core.somaxconn): a burst must wait in the queue while the daemon behind it is restarted. */
const backlog = 4096;
const receiveBufferBytes = 4 * 1024 * 1024;

export interface SocketOrder {
  readonly protocol: keyof typeof socketType;
  readonly address: string;
  readonly port: number;
}

/**
 * Opens bound (and, for TCP, listening) sockets inside a network namespace and returns their descriptors. The supervisor holds
 * them and every daemon inherits them, so connections wait in the queue while a killed daemon is started again.
 * setns(2) moves only the calling thread, and nothing here awaits, so the thread is back before other code runs.
 */
export function openSockets(netnsPath: string, orders: readonly SocketOrder[]): number[] {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  const target = openSync(netnsPath, 'r');
  const opened: number[] = [];
  try {
    check(libc.symbols.setns(target, cloneNewnet), `entering ${netnsPath}`);
    try {
      for (const order of orders) opened.push(openSocket(order));
    } finally {
      check(libc.symbols.setns(home, cloneNewnet), 'coming back to the network namespace of the machine');
    }
    return opened;
  } catch (thrown) {
    for (const descriptor of opened) closeSync(descriptor);
    throw thrown;
  } finally {
    closeSync(target);
    closeSync(home);
  }
}

function openSocket(order: SocketOrder): number {
  const what = `${order.protocol} ${order.address} port ${order.port}`;
  const isV6 = isIPv6(order.address);
  const type = socketType[order.protocol] | socketCloseOnExec | socketNonBlocking;
  const descriptor = check(libc.symbols.socket(isV6 ? family.ipv6 : family.ipv4, type, 0), `socket for ${what}`);
  try {
    setOption(descriptor, solSocket, reuseAddress, 1, what);
    if (isV6) setOption(descriptor, protocolIpv6, ipv6Only, 1, what);
    if (order.protocol === 'udp') setOption(descriptor, solSocket, receiveBuffer, receiveBufferBytes, what);
    const address = socketAddress(order, isV6);
    check(libc.symbols.bind(descriptor, ptr(address), address.byteLength), `bind to ${what}`);
    if (order.protocol === 'tcp') check(libc.symbols.listen(descriptor, backlog), `listen on ${what}`);
    return descriptor;
  } catch (thrown) {
    closeSync(descriptor);
    throw thrown;
  }
}

function setOption(descriptor: number, level: number, option: number, value: number, what: string): void {
  const buffer = new Int32Array([value]);
  check(libc.symbols.setsockopt(descriptor, level, option, ptr(buffer), buffer.byteLength), `socket option ${option} of ${what}`);
}

/** struct sockaddr_in (16 bytes) or sockaddr_in6 (28): family in host order (little-endian on all we run on), port and address in network order. */
function socketAddress(order: SocketOrder, isV6: boolean): Uint8Array {
  const bytes = new Uint8Array(isV6 ? 28 : 16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, isV6 ? family.ipv6 : family.ipv4, true);
  view.setUint16(2, order.port);
  const value = parseRange(order.address)?.first ?? 0n;
  if (isV6) {
    view.setBigUint64(8, value >> 64n);
    view.setBigUint64(16, value & 0xffff_ffff_ffff_ffffn);
  } else {
    view.setUint32(4, Number(value));
  }
  return bytes;
}

function check(result: number, what: string): number {
  if (result >= 0) return result;
  const location = libc.symbols.__errno_location();
  const errno = location === null ? 0 : read.i32(location, 0);
  throw new Failure('socket-failed', `${what} failed with errno ${errno}`);
}
