import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { messageOf } from '../kit/errors.ts';
import { encodeMessage, parseMessage } from '../kit/wire/version.ts';
import { dumpMessage } from './state.ts';
import type { Dump } from './state.ts';

/** The dump in a file, or why there is none. Absence is no fault at a first start; the caller decides. */
export function readDump(path: string): { dump: Dump } | { reason: string; absent: boolean } {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (thrown) {
    return { reason: messageOf(thrown), absent: thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT' };
  }
  const parsed = parseMessage(dumpMessage, text);
  return parsed.ok ? { dump: parsed.value } : { reason: parsed.reason, absent: false };
}

/** Written beside and renamed, so that a reader never finds half of it. */
export function writeDump(path: string, dump: Dump): void {
  const beside = `${path}.new`;
  writeFileSync(beside, encodeMessage(dumpMessage, dump), { mode: 0o600 });
  renameSync(beside, path);
}
