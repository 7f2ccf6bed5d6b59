import { readFileSync } from 'node:fs';

/** The mount points at or below a folder, deepest first, from the text of /proc/self/mountinfo (field 5, with its octal escapes; proc(5)). */
export function mountsBelow(mountinfo: string, folder: string): string[] {
  return mountinfo
    .split('\n')
    .map((line) => (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))))
    .filter((point) => point === folder || point.startsWith(`${folder}/`))
    .toReversed();
}

export function readMountinfo(): string {
  return readFileSync('/proc/self/mountinfo', 'utf8');
}
