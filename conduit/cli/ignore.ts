/**
 * The rules of an `.edgepointignore`, in the manner of gitignore(5): one pattern a line, `#` begins a comment, `!` takes back,
 * a pattern with a slash inside is rooted at the folder, one that ends in a slash is for folders; `*`, `?`, `[a-z]`, `**`.
 */
export interface IgnoreRules {
  /** `path` is relative to the folder, without a leading slash. What lies below an ignored folder is never asked. */
  readonly ignores: (path: string, isDirectory: boolean) => boolean;
}

interface Rule {
  readonly pattern: RegExp;
  readonly takesBack: boolean;
  readonly directoriesOnly: boolean;
}

/** Never part of an app: its history, and our own rules. */
const always = ['.git/', '.edgepointignore', '.DS_Store'];

export function parseIgnoreRules(text: string): IgnoreRules {
  const rules = [...always, ...text.split('\n')].flatMap(parseRule);
  return {
    ignores(path, isDirectory) {
      let ignored = false;
      for (const rule of rules) if ((isDirectory || !rule.directoriesOnly) && rule.pattern.test(path)) ignored = !rule.takesBack;
      return ignored;
    },
  };
}

function parseRule(line: string): Rule[] {
  let pattern = line.replace(/\r$/, '').replace(/(?<!\\)\s+$/, '');
  if (pattern === '' || pattern.startsWith('#')) return [];
  const takesBack = pattern.startsWith('!');
  if (takesBack) pattern = pattern.slice(1);
  const directoriesOnly = pattern.endsWith('/');
  if (directoriesOnly) pattern = pattern.slice(0, -1);
  const isRooted = pattern.includes('/');
  pattern = pattern.replace(/^\//, '');
  if (pattern === '') return [];
  return [{ pattern: new RegExp(`${isRooted ? '^' : '(?:^|/)'}${globSource(pattern)}$`, 's'), takesBack, directoriesOnly }];
}

function globSource(glob: string): string {
  let source = '';
  for (let at = 0; at < glob.length; at += 1) {
    const next = glob[at] ?? '';
    if (glob.startsWith('**/', at)) {
      source += '(?:.*/)?';
      at += 2;
    } else if (glob.startsWith('**', at)) {
      source += '.*';
      at += 1;
    } else if (next === '*') source += '[^/]*';
    else if (next === '?') source += '[^/]';
    else if (next === '[') {
      const end = glob.indexOf(']', at + 2);
      if (end === -1) source += '\\[';
      else {
        source += `[${glob.slice(at + 1, end).replace(/^!/, '^').replace(/\\/g, '\\\\')}]`;
        at = end;
      }
    } else if (next === '\\' && at + 1 < glob.length) {
      at += 1;
      source += escape(glob[at] ?? '');
    } else source += escape(next);
  }
  return source;
}

const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
