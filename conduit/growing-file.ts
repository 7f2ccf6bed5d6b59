import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';

/** What is read at once: with pieces as small as a network's, the calls take as long as the work. */
const pieceBytes = 1024 * 1024;

/** A file that is written by one and read by another at the same time; the reader may be slower, and holds one piece in memory. */
export interface GrowingFile {
  /** One at a time. */
  append(bytes: Uint8Array): Promise<void>;
  /** Nothing more comes. With a reason, whoever reads is told that it was cut off. */
  end(cut?: Error): void;
  /** From its beginning to where `end` was called. */
  read(): AsyncGenerator<Buffer>;
  /** What was appended is on the disk. */
  sync(): Promise<void>;
  /** After whoever reads has ended. */
  close(): Promise<void>;
}

/** Makes a file that is not there yet, for its owner alone. */
export async function openGrowingFile(path: string): Promise<GrowingFile> {
  const file = await open(path, 'wx+', 0o600);
  let written = 0;
  let ended: { readonly cut: Error | null } | null = null;
  let wake: (() => void)[] = [];
  const tell = (): void => {
    const woken = wake;
    wake = [];
    for (const one of woken) one();
  };
  return {
    async append(bytes) {
      await writeAll(file, bytes, written);
      written += bytes.length;
      tell();
    },
    end(cut) {
      ended ??= { cut: cut ?? null };
      tell();
    },
    async *read() {
      for (let at = 0; ; ) {
        if (ended?.cut) throw ended.cut;
        if (at < written) {
          const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(Math.min(pieceBytes, written - at)), 0, null, at);
          if (bytesRead === 0) throw new Error(`an upload has lost what it had after ${at} bytes`);
          at += bytesRead;
          yield buffer.subarray(0, bytesRead);
        } else if (ended) return;
        else await new Promise<void>((resolve) => wake.push(resolve));
      }
    },
    sync: () => file.sync(),
    close: () => file.close(),
  };
}

/** A write may be shorter than asked for (write(2)). */
async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at, position + at)).bytesWritten;
}
