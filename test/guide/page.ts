/** What a page of the guide has a reader do, in order. */
export type Step =
  /** A block whose info string names a file: ```js server.mjs */
  | { readonly kind: 'file'; readonly path: string; readonly text: string }
  /** A line of a ```console block that begins with `$ `, and the lines below it. */
  | { readonly kind: 'command'; readonly line: number; readonly command: string; readonly exitCode: number; readonly output: readonly string[] };

interface Block {
  readonly info: string;
  /** Of its first line, from 1. */
  readonly line: number;
  readonly lines: readonly string[];
}

/** The fenced blocks of a page (CommonMark 4.5, fences of three backticks). */
export function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  let open: { info: string; line: number; lines: string[] } | null = null;
  for (const [index, line] of markdown.split('\n').entries()) {
    if (!line.startsWith('```')) open?.lines.push(line);
    else if (open === null) open = { info: line.slice(3).trim(), line: index + 2, lines: [] };
    else {
      blocks.push(open);
      open = null;
    }
  }
  if (open !== null) throw new Error(`the block at line ${open.line} has no end`);
  return blocks;
}

/** `values` stand for words of the page that a reader replaces: TOKEN, say. A command that must fail says so: `# exit code 4`. */
export function stepsOf(markdown: string, values: Readonly<Record<string, string>>): Step[] {
  const filled = (text: string): string => Object.entries(values).reduce((now, [word, value]) => now.replace(new RegExp(`\\b${literal(word)}\\b`, 'g'), () => value), text);
  return blocksOf(markdown).flatMap(({ info, line, lines }): Step[] => {
    const [language = '', path] = info.split(' ');
    if (path !== undefined) return [{ kind: 'file', path, text: `${lines.join('\n')}\n` }];
    return language === 'console' ? commandsOf(lines.map(filled), line) : [];
  });
}

function commandsOf(lines: readonly string[], firstLine: number): Step[] {
  const steps: (Extract<Step, { kind: 'command' }> & { output: string[] })[] = [];
  for (const [index, line] of lines.entries()) {
    if (line.startsWith('$ ')) {
      const command = line.slice(2);
      steps.push({ kind: 'command', line: firstLine + index, command, exitCode: Number(/# exit code (\d+)$/.exec(command)?.[1] ?? 0), output: [] });
    } else if (line.trim() !== '') {
      const last = steps.at(-1);
      if (last === undefined) throw new Error(`line ${firstLine + index}: output of no command`);
      last.output.push(line);
    }
  }
  return steps;
}

/**
 * The first line of a page's output that a command did not print, null when there is none. Lines may be left out, but stand in order; `…` is
 * anything, a figure before a unit is any figure, and so is the space between words.
 */
export function missingLine(expected: readonly string[], printed: string): string | null {
  const lines = printed.split('\n');
  let from = 0;
  for (const line of expected) {
    const pattern = patternOf(line);
    const found = lines.findIndex((each, index) => index >= from && pattern.test(each.trim()));
    if (found < 0) return line;
    from = found + 1;
  }
  return null;
}

const literal = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
const figure = /\d[\d.,]*(?= (?:ms|s|B|kB|KiB|MiB|times|%)(?:\W|$))/;

function patternOf(line: string): RegExp {
  const words = line.trim().split(/\s+/).join(' ');
  const parts = words.split('…').map((part) => part.split(figure).map(literal).join('\\d[\\d.,]*').replaceAll(' ', '\\s+'));
  return new RegExp(`^${parts.join('.*')}$`);
}
