import { stderr, stdout } from 'node:process';

/** Where a command's words go. With `json`, stdout carries nothing but JSON. */
export interface Terminal {
  readonly json: boolean;
  /** For people; nothing with `--json`. */
  say(text: string): void;
  /** One JSON value on a line; nothing without `--json`. */
  tell(value: unknown): void;
  /** Rewrites the last line of a terminal; nothing elsewhere. An empty text clears it. */
  progress(text: string): void;
  readonly paint: Paint;
}

export type Colour = 'red' | 'green' | 'yellow' | 'blue' | 'dim' | 'bold';
export type Paint = (colour: Colour, text: string) => string;

const codes: Readonly<Record<Colour, readonly [number, number]>> = { red: [31, 39], green: [32, 39], yellow: [33, 39], blue: [34, 39], dim: [2, 22], bold: [1, 22] };

/** More often than this a line is not rewritten: nobody can read it. */
const redrawMs = 80;

/** Colours on terminals only, and not with NO_COLOR (no-color.org). */
export function openTerminal(options: { json: boolean; env: Record<string, string | undefined> }): Terminal {
  const colours = stdout.isTTY === true && !options.env['NO_COLOR'] && options.env['TERM'] !== 'dumb';
  const shows = !options.json && stderr.isTTY === true;
  let shown = false;
  let drawnMs = 0;
  const clear = (): void => {
    if (shown) stderr.write('\r\u001b[K');
    shown = false;
  };
  return {
    json: options.json,
    say(text) {
      clear();
      if (!options.json) stdout.write(`${text}\n`);
    },
    tell(value) {
      if (options.json) stdout.write(`${JSON.stringify(value)}\n`);
    },
    progress(text) {
      if (!shows) return;
      if (text === '') return clear();
      const nowMs = performance.now();
      if (shown && nowMs - drawnMs < redrawMs) return;
      clear();
      drawnMs = nowMs;
      // A line that wraps cannot be rewritten. Some terminals say that they have no columns at all.
      stderr.write(text.slice(0, Math.max(20, (stderr.columns || 80) - 1)));
      shown = true;
    },
    paint: (colour, text) => (colours ? `\u001b[${codes[colour][0]}m${text}\u001b[${codes[colour][1]}m` : text),
  };
}

/** What others wrote, without what could command a terminal: control characters but tab and line feed. */
export function harmless(text: string): string {
  return text.replace(/\p{Cc}/gu, (control) => (control === '\t' || control === '\n' ? control : '\ufffd'));
}

/** Columns as wide as their widest cell. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, index) => (widths[index] = Math.max(widths[index] ?? 0, cell.length)));
  return rows.map((row) => row.map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd(widths[index] ?? 0))).join('  '));
}
