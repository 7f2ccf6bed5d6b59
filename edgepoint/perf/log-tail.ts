import { closeSync, fstatSync, readSync, watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import type { Clock } from '../../kit/clock.ts';
import { ownerKey } from '../../kit/ids.ts';
import { bytesPerMebibyte } from '../../kit/units.ts';
import type { LogChunk } from '../../kit/wire/event.ts';
import type { RunningInstance } from '../model/calls.ts';
import type { LogFile } from './log-file.ts';
import { admit, drop, fullAllowance, lastLine, noLine, noteOfDropped, splitLines } from './log-lines.ts';
import type { Allowance, LineState } from './log-lines.ts';

export type Source = Pick<RunningInstance, 'instance' | 'owner' | 'release' | 'logPath'>;

export interface LogTailOptions {
  readonly clock: Clock;
  /** One or more whole lines; at most about a second's allowance. */
  readonly onChunk: (chunk: LogChunk) => void;
  /** A log could not be opened or watched: that instance has none, the others go on. */
  readonly onFault: (instance: string, failure: unknown) => void;
  /** `log-file.ts` */
  readonly openLogFile: (path: string) => LogFile;
  /**
   * Frees the space of what has been read. `fd` is null when this process may not write the file: whoever may does it by path.
   * Absent: nothing is freed.
   */
  readonly free?: (hole: { readonly path: string; readonly fd: number | null; readonly offset: number; readonly bytes: number }) => void;
  readonly bytesPerSecond?: number;
}

export interface LogTails {
  /** Begins at `fromOffset`, or at the end of what is there. Following an instance again changes nothing. */
  follow(source: Source, fromOffset: number | 'end'): void;
  /** Reads what is left, and forgets the instance. */
  ended(instance: string): void;
  stop(): void;
}

interface Tail {
  readonly source: Source;
  readonly file: LogFile;
  readonly watcher: FSWatcher;
  offset: number;
  freedTo: number;
  lines: LineState;
  /** A read is already due at the end of this turn. */
  due: boolean;
  lookAgainTimer: ReturnType<typeof setTimeout> | undefined;
  open: boolean;
}

/** What several instances of an app have left between them. */
interface Voice {
  allowance: Allowance;
  followers: number;
  noteTimer: ReturnType<typeof setTimeout> | undefined;
}

const readBytes = 64 * 1024;
/** Read for one instance before others have their turn. */
const turnBytesMax = bytesPerMebibyte;
/** Further behind than this, an app writes faster than anybody may read: the middle is passed over. */
const behindBytesMax = 8 * bytesPerMebibyte;
const freeBytesMin = bytesPerMebibyte;
const noteMs = 1000;
/** Bun's fs.watch tells nothing of a change within 1 ms of one it has told: after each news, the file is looked at once more. */
const lookAgainMs = 5;

/** Follows the logs of running instances by inotify: an app that is silent, or asleep, costs nothing. */
export function followLogs(options: LogTailOptions): LogTails {
  const { clock, onChunk, onFault, openLogFile, free, bytesPerSecond = 64 * 1024 } = options;
  const tails = new Map<string, Tail>();
  const voices = new Map<string, Voice>();
  const buffer = new Uint8Array(readBytes);

  function say({ owner, release, instance }: Source, lines: readonly string[]): void {
    if (lines.length === 0) return;
    onChunk({ ...owner, release, instance, wallMs: clock.wallMs(), text: `${lines.join('\n')}\n` });
  }

  function voiceOf(source: Source): Voice {
    const voice = voices.get(ownerKey(source.owner));
    if (!voice) throw new Error(`broken invariant: ${source.instance} is followed without an allowance`);
    return voice;
  }

  function speak(source: Source, lines: readonly string[]): void {
    const voice = voiceOf(source);
    const admitted = admit(voice.allowance, lines, clock.bootNs());
    voice.allowance = admitted.allowance;
    say(source, admitted.lines);
    // After a flood there may be silence: the note of what was dropped does not wait for the next line.
    if (voice.allowance.dropped.bytes > 0) voice.noteTimer ??= setTimeout(() => note(source, voice), noteMs);
  }

  function note(source: Source, voice: Voice): void {
    clearTimeout(voice.noteTimer);
    voice.noteTimer = undefined;
    const noted = noteOfDropped(voice.allowance);
    voice.allowance = noted.allowance;
    say(source, noted.lines);
  }

  function skipWhenFarBehind(tail: Tail, size: number): void {
    // A file that was cut short begins again.
    if (size < tail.offset) [tail.offset, tail.freedTo] = [0, 0];
    const behind = size - tail.offset;
    if (behind <= behindBytesMax) return;
    const skipped = behind - turnBytesMax;
    const voice = voiceOf(tail.source);
    voice.allowance = drop(voice.allowance, skipped);
    tail.offset += skipped;
    tail.lines = noLine;
  }

  function freeWhatWasRead(tail: Tail): void {
    const bytes = tail.offset - tail.freedTo;
    if (!free || bytes < freeBytesMin) return;
    free({ path: tail.source.logPath, fd: tail.file.writable ? tail.file.fd : null, offset: tail.freedTo, bytes });
    tail.freedTo = tail.offset;
  }

  /** True when there is more. */
  function readTurn(tail: Tail): boolean {
    skipWhenFarBehind(tail, fstatSync(tail.file.fd).size);
    for (let read = 0; read < turnBytesMax; ) {
      const bytes = readSync(tail.file.fd, buffer, 0, readBytes, tail.offset);
      if (bytes === 0) return false;
      read += bytes;
      tail.offset += bytes;
      const split = splitLines(tail.lines, buffer.subarray(0, bytes));
      tail.lines = split.state;
      speak(tail.source, split.lines);
      freeWhatWasRead(tail);
    }
    return true;
  }

  function readSoon(tail: Tail): void {
    if (tail.due) return;
    tail.due = true;
    setImmediate(() => {
      tail.due = false;
      if (!tail.open) return;
      try {
        if (readTurn(tail)) readSoon(tail);
      } catch (failure) {
        onFault(tail.source.instance, failure);
        close(tail);
      }
    });
  }

  function lookAgain(tail: Tail): void {
    /* From the newest news on: it is what comes right after that one of which nothing is told. */
    clearTimeout(tail.lookAgainTimer);
    tail.lookAgainTimer = setTimeout(() => {
      tail.lookAgainTimer = undefined;
      if (!tail.open || fstatSync(tail.file.fd).size === tail.offset) return;
      readSoon(tail);
      lookAgain(tail); // of what is written all the time, nothing may ever be told
    }, lookAgainMs);
  }

  function close(tail: Tail): void {
    if (!tail.open) return;
    tail.open = false;
    clearTimeout(tail.lookAgainTimer);
    tails.delete(tail.source.instance);
    tail.watcher.close();
    closeSync(tail.file.fd);
    const voice = voiceOf(tail.source);
    voice.followers -= 1;
    if (voice.followers > 0) return;
    note(tail.source, voice);
    voices.delete(ownerKey(tail.source.owner));
  }

  function begin(source: Source, fromOffset: number | 'end'): void {
    const file = openLogFile(source.logPath);
    const offset = fromOffset === 'end' ? fstatSync(file.fd).size : fromOffset;
    let tail: Tail;
    try {
      // Watched through the descriptor, so that it is the very file that was opened, whatever its path means by now.
      const watcher = watch(`/proc/self/fd/${file.fd}`, () => {
        readSoon(tail);
        lookAgain(tail);
      });
      watcher.on('error', (failure) => onFault(source.instance, failure));
      tail = { source, file, watcher, offset, freedTo: offset, lines: noLine, due: false, lookAgainTimer: undefined, open: true };
    } catch (failure) {
      closeSync(file.fd);
      throw failure;
    }
    const key = ownerKey(source.owner);
    const voice = voices.get(key) ?? { allowance: fullAllowance(bytesPerSecond, clock.bootNs()), followers: 0, noteTimer: undefined };
    voice.followers += 1;
    voices.set(key, voice);
    tails.set(source.instance, tail);
    readSoon(tail);
  }

  function end(tail: Tail): void {
    try {
      // Nobody writes any more, and what is too far behind is skipped: this ends.
      while (readTurn(tail));
      speak(tail.source, lastLine(tail.lines));
    } catch (failure) {
      onFault(tail.source.instance, failure);
    }
    close(tail);
  }

  return {
    follow(source, fromOffset) {
      if (tails.has(source.instance)) return;
      try {
        begin(source, fromOffset);
      } catch (failure) {
        onFault(source.instance, failure);
      }
    },
    ended(instance) {
      const tail = tails.get(instance);
      if (tail) end(tail);
    },
    stop() {
      for (const tail of tails.values()) end(tail);
    },
  };
}
