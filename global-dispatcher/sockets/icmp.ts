import { readdirSync, readlinkSync } from 'node:fs';
import { dlopen, ptr } from 'bun:ffi';

// <netinet/in.h> and <linux/in.h>, <linux/in6.h>.
const errorOptions = [
  { level: 0, option: 11 }, // IPPROTO_IP, IP_RECVERR
  { level: 41, option: 25 }, // IPPROTO_IPV6, IPV6_RECVERR
] as const;

const libc = dlopen('libc.so.6', {
  getsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'ptr'], returns: 'i32' },
  setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'u32'], returns: 'i32' },
});

/**
 * Bun sets IP_RECVERR (ip(7)) on every UDP socket: then an ICMP error that one client's closed port sent back makes the next send
 * fail, which is another client's answer. Measured: clients that close their port at once made the server lose half of all
 * answers. Clears the option on every socket of this process that has it; call it after opening or adopting one.
 */
export function ignoreIcmpErrors(): void {
  const value = new Int32Array(1);
  const length = new Uint32Array([4]);
  for (const descriptor of readdirSync('/proc/self/fd').map(Number)) {
    if (!isSocket(descriptor)) continue;
    for (const { level, option } of errorOptions) {
      length[0] = 4;
      const has = libc.symbols.getsockopt(descriptor, level, option, ptr(value), ptr(length)) === 0 && value[0] !== 0;
      value[0] = 0;
      if (has) libc.symbols.setsockopt(descriptor, level, option, ptr(value), 4);
    }
  }
}

function isSocket(descriptor: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`).startsWith('socket:');
  } catch {
    // It was the descriptor of the listing itself, closed by now.
    return false;
  }
}
