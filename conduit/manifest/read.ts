import { parse, TomlError } from 'smol-toml';
import type { z } from 'zod';
import { manifestSchema } from '../../kit/wire/manifest.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import { Failure } from '../../kit/errors.ts';
import { nearestWord } from '../../kit/nearest-word.ts';
import { locateKeys } from './locate.ts';
import type { KeyPath, Locations } from './locate.ts';
import { unknownKeys } from './known-keys.ts';
import { judgeManifest } from './rules.ts';

export const manifestFile = 'edgepoint.toml';
export const manifestBytesMax = 256 * 1024;

export interface ManifestProblem {
  /** 1 is the first line; 0 when it belongs to no line (something is missing). */
  readonly line: number;
  /** The whole sentence, with file and line. */
  readonly text: string;
}

export type ReadManifest =
  | { readonly ok: true; readonly manifest: Manifest }
  | { readonly ok: false; readonly problems: readonly ManifestProblem[] };

/** Parses and checks the text of an edgepoint.toml; says every problem at once, in the order of their lines. */
export function readManifest(text: string): ReadManifest {
  let raw: unknown;
  try {
    raw = parse(text);
  } catch (thrown) {
    if (!(thrown instanceof TomlError)) throw thrown;
    const said = (thrown.message.split('\n')[0] ?? '').replace(/^Invalid TOML document: /, '');
    return refused([{ line: thrown.line, text: `${manifestFile}:${thrown.line}: this is not TOML: ${said}` }]);
  }
  const where = locateKeys(text);
  const problems = unknownKeys(manifestSchema, raw).map(({ path, known }) => unknownKeyProblem(where, path, known));
  const parsed = manifestSchema.safeParse(raw);
  if (!parsed.success) problems.push(...parsed.error.issues.map((issue) => issueProblem(where, issue, raw)));
  else problems.push(...judgeManifest(parsed.data).map(({ path, text: said }) => problemAt(where, path, said)));
  if (problems.length > 0 || !parsed.success) return refused(problems);
  return { ok: true, manifest: parsed.data };
}

/** The Failure for a refused manifest: its message is one line for each problem. */
export function manifestFailure(problems: readonly ManifestProblem[]): Failure {
  return new Failure('manifest-invalid', problems.map((problem) => problem.text).join('\n'), {
    remedy: `Correct ${manifestFile} and deploy again.`,
  });
}

const refused = (problems: ManifestProblem[]): ReadManifest => ({
  ok: false,
  problems: problems.toSorted((a, b) => a.line - b.line).slice(0, 20),
});

function problemAt(where: Locations, path: KeyPath, said: string): ManifestProblem {
  const line = where.lineOf(path) ?? 0;
  return { line, text: `${manifestFile}${line > 0 ? `:${line}` : ''}: ${said}` };
}

function unknownKeyProblem(where: Locations, path: KeyPath, known: readonly string[]): ManifestProblem {
  const likely = nearestWord(String(path.at(-1)), known);
  const hint = likely ? `did you mean \`${likely}\`?` : `the keys here are ${known.map((key) => `\`${key}\``).join(', ')}`;
  return problemAt(where, path, `unknown key \`${keyText(path)}\`; ${hint}`);
}

const examples: Readonly<Record<string, string>> = {
  app: 'app = "hello"',
  command: 'command = ["node", "server.js"]',
  port: 'port = 3000',
  'volume.name': 'name = "storage"',
  'volume.path': 'path = "/data"',
  'ownPort.port': 'port = 7000',
  'warmup.path': 'path = "/"',
  'cron.schedule': 'schedule = "*/15 * * * *"',
  'cron.path': 'path = "/tasks/tidy"',
  'process.name': 'name = "worker"',
  'process.command': 'command = ["node", "worker.js"]',
  'file.path': 'path = "/run/me.json"',
  'file.text': `text = '{"me": "{instance}"}'`,
};

function issueProblem(where: Locations, issue: z.core.$ZodIssue, raw: unknown): ManifestProblem {
  const path = issue.path.filter((part) => typeof part !== 'symbol');
  const key = keyText(path);
  const value = valueAt(raw, path);
  const example = examples[path.filter((part) => typeof part === 'string').join('.')];
  const shown = example ? `, as in \`${example}\`` : '';
  if (issue.code === 'invalid_type' && value === undefined) return problemAt(where, path, `\`${key}\` is missing${shown}`);
  if (issue.code === 'invalid_type') {
    return problemAt(where, path, `\`${key}\` must be ${typeWords[issue.expected] ?? issue.expected}, not ${valueText(value)}${shown}`);
  }
  if (issue.code === 'invalid_value') {
    const values = issue.values.map((allowed) => JSON.stringify(allowed));
    const likely = typeof value === 'string' ? nearestWord(value, issue.values.map(String)) : null;
    const hint = likely ? `; did you mean ${JSON.stringify(likely)}?` : '';
    return problemAt(where, path, `\`${key}\` must be ${values.join(' or ')}, not ${valueText(value)}${hint}`);
  }
  if (issue.code === 'invalid_key') return problemAt(where, path, `\`${key}\` is no name for a variable: letters, digits and _, not beginning with a digit`);
  return problemAt(where, path, `\`${key}\` is ${valueText(value)}, which does not fit: ${boundText(issue)}${shown}`);
}

const typeWords: Readonly<Record<string, string>> = {
  string: 'a text in quotes',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a table',
  record: 'a table',
};

function boundText(issue: z.core.$ZodIssue): string {
  const unit = (origin: string): string => ({ string: ' characters', array: ' elements' })[origin] ?? '';
  if (issue.code === 'too_small') return `at least ${issue.minimum}${unit(issue.origin)}`;
  if (issue.code === 'too_big') return `at most ${issue.maximum}${unit(issue.origin)}`;
  if (issue.code === 'invalid_format' && issue.format === 'starts_with') return 'it must begin with /';
  if (issue.code === 'invalid_format' && issue.message.startsWith('Invalid')) {
    return issue.path.at(-1) === 'path' ? 'it must be an absolute path' : 'a name is lower-case letters, digits and inner hyphens';
  }
  return issue.message;
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Date) return 'a date';
  if (typeof value === 'object' && value !== null) return 'a table';
  const text = typeof value === 'bigint' ? String(value) : (JSON.stringify(value) ?? 'nothing');
  const short = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  return typeof value === 'string' ? `the text ${short}` : short;
}

function valueAt(raw: unknown, path: KeyPath): unknown {
  let value = raw;
  for (const part of path) value = (value as Record<string | number, unknown> | null | undefined)?.[part];
  return value;
}

/** `volume[0].path` */
function keyText(path: KeyPath): string {
  let text = '';
  for (const part of path) text += typeof part === 'number' ? `[${part}]` : `${text === '' ? '' : '.'}${part}`;
  return text;
}
