import { closeSync, fstatSync, readSync } from 'node:fs';
import type { Clock } from '../../kit/clock.ts';
import type { LogChunk } from '../../kit/wire/event.ts';
import type { InstanceWatch } from '../model/app.ts';
import type { Demand, RunningInstance } from '../model/calls.ts';
import { BackgroundWork, readInterfaceBytes } from '../perf/background.ts';
import { readCounters } from '../perf/counters.ts';
import { openLogFile, punchHole } from '../perf/log-file.ts';
import { followLogs } from '../perf/log-tail.ts';
import type { Meter } from '../perf/meter.ts';

const tailCharactersMax = 4000;
const tailsMax = 200;

/** The perf monitor as the rest of the head sees it: what runs, what it used, what it said. */
export interface PerfLink extends InstanceWatch {
  traffic(demand: Demand): void;
  /** The last words of an instance, also of one that has ended. */
  lastWords(logPath: string): string;
  stop(): void;
}

/** `meter` is there once restored's list has been seen; until then nothing is started. */
export function openPerfLink(options: {
  clock: Clock;
  meter: () => Meter | null;
  onChunk: (chunk: LogChunk) => void;
  /** Told what an instance does that nobody asked for, of those whose app `mayWork` then. */
  works: (instance: string, what: string) => void;
  mayWork: (running: RunningInstance) => boolean;
  onFault: (text: string, fields: Record<string, unknown>) => void;
}): PerfLink {
  const meterIds = new Map<string, string>();
  const logPaths = new Map<string, string>();
  const tails = new Map<string, string>();
  const logs = followLogs({
    clock: options.clock,
    openLogFile,
    /* The log lies on the instance's private disk: what has been read must not fill it. */
    free: ({ fd, offset, bytes }) => {
      if (fd === null || !punchHole(fd, offset, bytes)) options.onFault('the space of a log that was read cannot be given back', { offset, bytes });
    },
    onFault: (instance, failure) => options.onFault('the log of an instance cannot be read', { instance, failure }),
    onChunk: (chunk) => {
      const path = logPaths.get(chunk.instance);
      if (path !== undefined) {
        const before = tails.get(path) ?? '';
        tails.delete(path);
        tails.set(path, (before + chunk.text).slice(-tailCharactersMax));
        for (const oldest of tails.keys()) {
          if (tails.size <= tailsMax) break;
          tails.delete(oldest);
        }
      }
      options.onChunk(chunk);
    },
  });
  const background = new BackgroundWork({
    bootNs: options.clock.bootNs,
    readCounters,
    readBytes: readInterfaceBytes,
    every: (ms, callback) => {
      const timer = setInterval(callback, ms);
      return () => clearInterval(timer);
    },
    works: options.works,
    onFault: (failure) => options.onFault('what an instance does by itself cannot be read', { failure }),
  });
  return {
    started: (running, meterId, logFrom) => {
      if (options.mayWork(running)) background.follow(running);
      meterIds.set(running.instance, meterId);
      logPaths.set(running.instance, running.logPath);
      options.meter()?.instanceStarted({ ...running, instance: meterId });
      logs.follow(running, logFrom);
    },
    ended: ({ instance, meterId }, counters) => {
      options.meter()?.instanceEnded(meterId, counters);
      logs.ended(instance);
      background.forget(instance);
      logPaths.delete(instance);
      meterIds.delete(instance);
    },
    traffic: (demand) => {
      const traffic = demand.traffic.map((heard) => ({ ...heard, instance: meterIds.get(heard.instance) ?? heard.instance }));
      options.meter()?.traffic(traffic, demand.epoch);
    },
    lastWords: (logPath) => readEnd(logPath) || (tails.get(logPath) ?? ''),
    stop: () => {
      background.stop();
      logs.stop();
    },
  };
}

/** The end of a log as it is now, or empty when it cannot be read any more. */
function readEnd(path: string): string {
  try {
    const { fd } = openLogFile(path);
    try {
      const { size } = fstatSync(fd);
      const bytes = Buffer.alloc(Math.min(size, tailCharactersMax));
      readSync(fd, bytes, 0, bytes.length, size - bytes.length);
      return bytes.toString('utf8');
    } finally {
      closeSync(fd);
    }
  } catch {
    // Gone with its instance: what was followed of it is told instead.
    return '';
  }
}
