import { closeSync, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { heldPath, pagerPath } from '../folders.ts';
import { type Fill, readFillFile } from './fill.ts';

/** Whether a pager holds memory of the instance (pager.c): told as of a lazy restore, by a file that who holds it has locked. */
export function readHeld(runFolder: string, instance: string): Fill {
  return readFillFile(heldPath(runFolder, instance));
}

/** A connection to the pager of an instance: `F` asks it to give everything back, and the end of it is the pager's end. */
export interface PagerConnection {
  wish(letter: 'F'): void;
  /** What it holds, compressed; 0 when it has ended. */
  heldBytes(): Promise<number>;
  readonly ended: Promise<void>;
  close(): void;
}

/** Null when nobody listens there. */
export async function connectToPager(runFolder: string, instance: string): Promise<PagerConnection | null> {
  const path = pagerPath(runFolder, instance);
  let folder: number;
  try {
    folder = openSync(dirname(path), 'r');
  } catch {
    return null; // nor is the folder there
  }
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  try {
    /* Paths of sockets are short: unix(7). */
    let told: (text: string) => void = () => undefined;
    const unix = `/proc/self/fd/${folder}/${basename(path)}`;
    const socket = await Bun.connect({ unix, socket: { data: (_, bytes) => told(bytes.toString()), close: () => resolve(), error: () => resolve() } });
    return {
      wish: (letter) => void socket.write(letter),
      heldBytes: async () => {
        const answer = new Promise<string>((tell) => (told = tell));
        socket.write('S');
        return Number.parseInt(await Promise.race([answer, ended.then(() => '0')]), 10) || 0;
      },
      ended,
      close: () => void socket.end(),
    };
  } catch {
    return null;
  } finally {
    closeSync(folder);
  }
}

const pollMs = 10;

/** Has the pager of the instance, if there is one, give its memory back, and waits for that; what came of it. */
export async function giveBack(runFolder: string, instance: string, pause: (ms: number) => Promise<unknown>): Promise<Fill> {
  let pager: PagerConnection | null = null;
  try {
    for (;;) {
      const held = readHeld(runFolder, instance);
      if (held.kind !== 'under-way') return held;
      if (pager === null) {
        pager = await connectToPager(runFolder, instance);
        pager?.wish('F');
        void pager?.ended.then(() => (pager = null));
      }
      await pause(pollMs);
    }
  } finally {
    pager?.close();
  }
}
