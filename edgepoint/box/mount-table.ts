import { readFileSync } from 'node:fs';

/** The mount points at or below a folder, deepest first, from the text of /proc/self/mountinfo (field 5, with its octal escapes; proc(5)). */
export function mountsBelow(mountinfo: string, folder: string): string[] {
  return mountinfo
    .split('\n')
    .map(mountPoint)
    .filter((point) => point === folder || point.startsWith(`${folder}/`))
    .toReversed();
}

function mountPoint(line: string): string {
  return unescaped(line.split(' ')[4] ?? '');
}

function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The lower layers of the overlay mounted at a folder, the uppermost first; none when there is no overlay. */
export function layersOf(mountinfo: string, folder: string): string[] {
  const line = mountinfo.split('\n').findLast((each) => mountPoint(each) === folder && each.includes(' - overlay '));
  const layers = /[ ,]lowerdir=([^, ]*)/.exec(line ?? '')?.[1];
  return layers === undefined ? [] : unescaped(layers).split(':');
}

export function readMountinfo(): string {
  return readFileSync('/proc/self/mountinfo', 'utf8');
}
