import { createReadStream } from 'node:fs';
import { stderr, stdin } from 'node:process';
import { Failure, messageOf } from '../../kit/errors.ts';

/** More than the conduit takes, so that it says how much that is. */
const bytesMax = 256 * 1024;

/**
 * A secret's value: of a file as it is; of stdin without the line feed that ends it, as `echo` and editors put one there; or typed at the
 * terminal, which does not show it. Values are text.
 */
export async function readSecret(name: string, file?: string): Promise<string> {
  if (file !== undefined) return textOf(await readAll(createReadStream(file), file));
  if (stdin.isTTY !== true) return textOf(await readAll(stdin, 'stdin')).replace(/\r?\n$/, '');
  return askHidden(`Value of ${name} (not shown): `);
}

async function readAll(stream: AsyncIterable<Uint8Array>, from: string): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const part of stream) {
      parts.push(part);
      bytes += part.byteLength;
      if (bytes > bytesMax) throw new Failure('value-too-big', `the value has more than ${bytesMax} bytes`, { remedy: 'Keep what is bigger elsewhere, and its key here.' });
    }
  } catch (thrown) {
    if (thrown instanceof Failure) throw thrown;
    throw new Failure('command-line', `${from} cannot be read: ${messageOf(thrown)}`, { cause: thrown });
  }
  return Buffer.concat(parts);
}

function textOf(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Failure('value-invalid', 'the value is not text in UTF-8', { remedy: 'Encode it, as base64 for one.' });
  }
}

const enter = new Set(['\r', '\n']);
const interrupt = '\u0003';
const endOfFile = '\u0004';
const erase = new Set(['\u007f', '\b']);

/** In raw mode the terminal echoes nothing, and what else it would have done is done here. */
function askHidden(question: string): Promise<string> {
  stderr.write(question);
  stdin.setRawMode(true);
  stdin.setEncoding('utf8');
  return new Promise((resolve, reject) => {
    const typed: string[] = [];
    const end = (settle: () => void): void => {
      stdin.removeListener('data', take);
      stdin.setRawMode(false);
      stdin.pause();
      stderr.write('\n');
      settle();
    };
    const take = (text: string): void => {
      for (const character of text) {
        if (enter.has(character) || character === endOfFile) return end(() => resolve(typed.join('')));
        if (character === interrupt) return end(() => reject(new Failure('not-confirmed', 'nothing was set')));
        if (erase.has(character)) typed.pop();
        else if (typed.length < bytesMax) typed.push(character);
      }
    };
    stdin.on('data', take);
    stdin.resume();
  });
}
