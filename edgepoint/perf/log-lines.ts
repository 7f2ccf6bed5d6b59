import { formatBytes, nsPerSecond } from '../../kit/units.ts';

/** The end of what was read that is not yet a whole line. Invariant: `partial` is at most `lineBytesMax` long. */
export interface LineState {
  readonly partial: Uint8Array;
  /** The line under way has been cut; what comes of it up to its end is passed over. */
  readonly cutting: boolean;
}

export const lineBytesMax = 8 * 1024;
export const noLine: LineState = { partial: new Uint8Array(0), cutting: false };
const newline = 10;
const cutMark = ' [cut]';
const decoder = new TextDecoder();

/** The bytes without a character that was cut in two: a UTF-8 sequence is at most four bytes, its later ones are 10xxxxxx (RFC 3629). */
function wholeCharacters(bytes: Uint8Array): Uint8Array {
  let end = bytes.length;
  while (end > 0 && bytes.length - end < 3 && ((bytes[end - 1] ?? 0) & 0xc0) === 0x80) end -= 1;
  return end > 0 && (bytes[end - 1] ?? 0) >= 0xc0 ? bytes.subarray(0, end - 1) : bytes;
}

function cut(bytes: Uint8Array): string {
  return `${decoder.decode(wholeCharacters(bytes.subarray(0, lineBytesMax)))}${cutMark}`;
}

function joined(left: Uint8Array, right: Uint8Array): Uint8Array {
  if (left.length === 0) return right;
  const both = new Uint8Array(left.length + right.length);
  both.set(left);
  both.set(right, left.length);
  return both;
}

/** Whole lines, without their ends, a line over `lineBytesMax` cut and marked; what is left over waits in the state. */
export function splitLines(state: LineState, bytes: Uint8Array): { readonly state: LineState; readonly lines: string[] } {
  const lines: string[] = [];
  let rest = joined(state.partial, bytes);
  let { cutting } = state;
  for (let end = rest.indexOf(newline); end >= 0; end = rest.indexOf(newline)) {
    const line = rest.subarray(0, end);
    if (!cutting) lines.push(line.length > lineBytesMax ? cut(line) : decoder.decode(line));
    cutting = false;
    rest = rest.subarray(end + 1);
  }
  if (cutting) return { state: { partial: noLine.partial, cutting }, lines };
  if (rest.length > lineBytesMax) return { state: { partial: noLine.partial, cutting: true }, lines: [...lines, cut(rest)] };
  // A copy: the bytes given belong to a buffer that is used again.
  return { state: { partial: rest.slice(), cutting: false }, lines };
}

/** The last words of an instance that ended within a line. */
export function lastLine(state: LineState): string[] {
  return state.partial.length === 0 ? [] : [decoder.decode(state.partial)];
}

/** How much one app may still say: a bucket that fills at the rate and holds one second of it. */
export interface Allowance {
  readonly bytesPerSecond: number;
  readonly bytes: number;
  readonly atBootNs: number;
  readonly dropped: { readonly lines: number; readonly bytes: number };
}

const nothingDropped = { lines: 0, bytes: 0 };

export function fullAllowance(bytesPerSecond: number, nowBootNs: number): Allowance {
  return { bytesPerSecond, bytes: bytesPerSecond, atBootNs: nowBootNs, dropped: nothingDropped };
}

function refilled(allowance: Allowance, nowBootNs: number): Allowance {
  const seconds = Math.max(0, nowBootNs - allowance.atBootNs) / nsPerSecond;
  return { ...allowance, bytes: Math.min(allowance.bytesPerSecond, allowance.bytes + seconds * allowance.bytesPerSecond), atBootNs: nowBootNs };
}

/** Remembers bytes that were passed over without being read as lines. */
export function drop(allowance: Allowance, bytes: number): Allowance {
  return { ...allowance, dropped: { lines: allowance.dropped.lines, bytes: allowance.dropped.bytes + bytes } };
}

/** What was dropped, as a line among the app's own; empty when nothing was. */
export function noteOfDropped(allowance: Allowance): { readonly allowance: Allowance; readonly lines: string[] } {
  const { lines, bytes } = allowance.dropped;
  if (bytes === 0) return { allowance, lines: [] };
  const what = lines === 0 ? formatBytes(bytes) : `${lines} ${lines === 1 ? 'line' : 'lines'} (${formatBytes(bytes)})`;
  const note = `[edgepoint: ${what} dropped here; an app may write ${formatBytes(allowance.bytesPerSecond)} of log in a second]`;
  return { allowance: { ...allowance, dropped: nothingDropped }, lines: [note] };
}

/**
 * The lines that may pass. Once lines are dropped, dropping goes on until half a second's worth has gathered, so that the log
 * of a flood is made of stretches with one note each, not of every second line.
 */
export function admit(allowance: Allowance, lines: readonly string[], nowBootNs: number): { readonly allowance: Allowance; readonly lines: string[] } {
  let left = refilled(allowance, nowBootNs);
  const passed: string[] = [];
  for (const line of lines) {
    const bytes = Buffer.byteLength(line) + 1;
    const wanted = left.dropped.bytes > 0 ? Math.max(bytes, left.bytesPerSecond / 2) : bytes;
    if (left.bytes < wanted) {
      left = { ...left, dropped: { lines: left.dropped.lines + 1, bytes: left.dropped.bytes + bytes } };
      continue;
    }
    const noted = noteOfDropped(left);
    passed.push(...noted.lines, line);
    left = { ...noted.allowance, bytes: left.bytes - bytes };
  }
  return { allowance: left, lines: passed };
}
