import { gzipSync } from 'node:zlib';

/** One header and its contents, as an archive may hold them; written by hand, for no tool makes the bad ones. */
export interface RawEntry {
  readonly path: string;
  /** ustar's type flag: 0 file, 1 hard link, 2 symlink, 3 and 4 devices, 5 directory, 6 fifo. */
  readonly type?: string;
  readonly target?: string;
  readonly content?: string | Buffer;
}

export function rawTar(entries: readonly RawEntry[], options: { ends?: boolean } = {}): Buffer {
  const blocks = entries.flatMap((entry) => {
    const content = Buffer.from(entry.content ?? '');
    return [header(entry, content.length), content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat(options.ends === false ? blocks : [...blocks, Buffer.alloc(1024)]);
}

export const rawTarGz = (entries: readonly RawEntry[]): Buffer => gzipSync(rawTar(entries));

/** pax(1), "ustar Interchange Format". */
function header(entry: RawEntry, bytes: number): Buffer {
  const block = Buffer.alloc(512);
  block.write(entry.path, 0, 100);
  block.write('0000644\0', 100);
  block.write('0000000\0', 108);
  block.write('0000000\0', 116);
  block.write(`${bytes.toString(8).padStart(11, '0')}\0`, 124);
  block.write('00000000000\0', 136);
  block.write('        ', 148);
  block.write(entry.type ?? '0', 156);
  block.write(entry.target ?? '', 157, 100);
  block.write('ustar\u000000', 257);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}
