import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type * as ffi from 'bun:ffi';
import type { Clock } from '../kit/clock.ts';
import { nsPerSecond } from '../kit/units.ts';

/** The machine's own clocks. Readings of two processes on one machine may be compared with each other. */
export function openClock(): Clock {
  const readBootNs = 'Bun' in globalThis ? bootClockByCall() : bootClockByUptime();
  let lastNs = 0;
  return {
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    wallMs: () => Date.now(),
    bootNs: () => {
      lastNs = Math.max(lastNs, readBootNs());
      return lastNs;
    },
  };
}

/** On Bun, whose `process.hrtime` begins with the process: clock_gettime(CLOCK_BOOTTIME) itself. */
function bootClockByCall(): () => number {
  const { dlopen, ptr } = createRequire(import.meta.url)('bun:ffi') as typeof ffi;
  const { symbols } = dlopen('libc.so.6', { clock_gettime: { args: ['i32', 'ptr'], returns: 'i32' } });
  const clockBoottime = 7; // linux/time.h
  /** struct timespec: seconds, nanoseconds. */
  const timespec = new BigInt64Array(2);
  const pointer = ptr(timespec);
  return () => {
    symbols.clock_gettime(clockBoottime, pointer);
    return Number(timespec[0]) * nsPerSecond + Number(timespec[1]);
  };
}

/**
 * On Node `process.hrtime` counts CLOCK_MONOTONIC, which stands still while the machine is suspended: it is set right by the
 * difference to /proc/uptime (CLOCK_BOOTTIME in hundredths of a second, proc_uptime(5)), looked at once a second.
 */
function bootClockByUptime(): () => number {
  const roundingNs = 50_000_000;
  const suspendedNs = (): number => {
    const uptimeSeconds = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
    const differenceNs = Math.round(uptimeSeconds * nsPerSecond) - Number(process.hrtime.bigint());
    return differenceNs > roundingNs ? differenceNs : 0;
  };
  let addNs = suspendedNs();
  let checkedNs = Number(process.hrtime.bigint());
  return () => {
    const nowNs = Number(process.hrtime.bigint());
    if (nowNs - checkedNs >= nsPerSecond) {
      checkedNs = nowNs;
      const foundNs = suspendedNs();
      if (foundNs > addNs + roundingNs) addNs = foundNs;
    }
    return nowNs + addNs;
  };
}
