import { readFile } from 'node:fs/promises';
import { parse as parseToml } from 'smol-toml';
import type { z } from 'zod';
import { Failure, messageOf } from '../kit/errors.ts';
import { nearestWord } from '../kit/nearest-word.ts';

/** What one daemon can be told. Each field of the schema carries its sentence by `.describe('...')`. */
export interface Settings<S extends z.ZodObject> {
  /** As typed by a person: `edgepoint head`. */
  readonly name: string;
  /** One sentence for `--help`. */
  readonly about: string;
  /** `EDGEPOINT_HEAD`: the setting `natsUrl` is then read from `EDGEPOINT_HEAD_NATS_URL`. */
  readonly prefix: string;
  readonly schema: S;
}

/**
 * The settings from, later wins: defaults, `--config FILE` (.json or .toml), the environment, `--field-name value`.
 * `--help` prints every setting and exits 0; a bad setting prints a sentence naming its source and field and exits 2.
 * The result is frozen, all the way down.
 */
export async function readSettings<S extends z.ZodObject>(
  settings: Settings<S>,
  argv: readonly string[],
  env: Record<string, string | undefined>,
): Promise<Readonly<z.output<S>>> {
  if (argv.includes('--help') || argv.includes('-h')) {
    process.stdout.write(describeSettings(settings));
    process.exit(0);
  }
  try {
    return await decideSettings(settings, argv, env, (path) => readFile(path, 'utf8'));
  } catch (thrown) {
    if (!(thrown instanceof Failure)) throw thrown;
    process.stderr.write(`${settings.name}: ${thrown.message}\n${thrown.remedy === '' ? '' : `${thrown.remedy}\n`}`);
    process.exit(2);
  }
}

/** As readSettings, but throws a Failure `bad-setting` instead of ending the process. */
export async function decideSettings<S extends z.ZodObject>(
  settings: Settings<S>,
  argv: readonly string[],
  env: Record<string, string | undefined>,
  readText: (path: string) => Promise<string>,
): Promise<Readonly<z.output<S>>> {
  const fields = Object.keys(settings.schema.shape);
  const given = readOptions(fields, argv);
  const values: Record<string, unknown> = {};
  /** Where each value came from, for the sentence about a bad one. */
  const sources = new Map<string, string>();
  const take = (field: string, value: unknown, source: string): void => {
    values[field] = value;
    sources.set(field, source);
  };
  if (given.configPath !== null) {
    for (const [field, value] of Object.entries(await readConfigFile(given.configPath, readText))) {
      if (!fields.includes(field)) throw unknownSetting(field, `${given.configPath}: `, fields, (name) => name);
      take(field, value, `${given.configPath}: ${field}`);
    }
  }
  for (const field of fields) {
    const name = variableName(settings.prefix, field);
    const text = env[name];
    if (text !== undefined) take(field, fromText(settings.schema, field, text), `environment variable ${name}`);
  }
  for (const [field, text] of given.options) take(field, fromText(settings.schema, field, text), `option --${optionName(field)}`);
  const parsed = settings.schema.safeParse(values);
  if (parsed.success) return deepFreeze(parsed.data);
  throw badSetting(parsed.error.issues[0], sources, settings);
}

interface Given {
  readonly configPath: string | null;
  readonly options: ReadonlyMap<string, string>;
}

function readOptions(fields: readonly string[], argv: readonly string[]): Given {
  const options = new Map<string, string>();
  let configPath: string | null = null;
  for (let place = 0; place < argv.length; place += 1) {
    const word = argv[place] ?? '';
    if (!word.startsWith('--')) throw new Failure('bad-setting', `${JSON.stringify(word)} is not an option`, { remedy: 'Options are written --name value; --help lists them.' });
    const [name = '', joined] = splitOnce(word.slice(2), '=');
    const value = joined ?? argv[(place += 1)];
    if (value === undefined) throw new Failure('bad-setting', `option --${name} needs a value`);
    if (name === 'config') {
      configPath = value;
      continue;
    }
    const field = fields.find((known) => optionName(known) === name || known === name);
    if (field === undefined) throw unknownSetting(name, 'option --', ['config', ...fields], optionName);
    options.set(field, value);
  }
  return { configPath, options };
}

async function readConfigFile(path: string, readText: (path: string) => Promise<string>): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readText(path);
  } catch (thrown) {
    throw new Failure('bad-setting', `the config file ${path} cannot be read: ${messageOf(thrown)}`, { cause: thrown });
  }
  let value: unknown;
  try {
    value = path.endsWith('.toml') ? parseToml(text) : JSON.parse(text);
  } catch (thrown) {
    throw new Failure('bad-setting', `${path} is not ${path.endsWith('.toml') ? 'TOML' : 'JSON'}: ${messageOf(thrown)}`, { cause: thrown });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Failure('bad-setting', `${path} holds ${Array.isArray(value) ? 'a list' : typeof value}, not settings by name`);
  }
  return value as Record<string, unknown>;
}

function badSetting(issue: z.core.$ZodIssue | undefined, sources: ReadonlyMap<string, string>, settings: Settings<z.ZodObject>): Failure {
  const [field = '', ...inner] = (issue?.path ?? []).map(String);
  const source = sources.get(field);
  const deeper = inner.length === 0 ? '' : `.${inner.join('.')}`;
  if (source === undefined && field !== '') {
    return new Failure('bad-setting', `the setting ${field} is missing`, {
      remedy: `Say it in the config file (${field}), as --${optionName(field)}, or as ${variableName(settings.prefix, field)}.`,
    });
  }
  const about = settings.schema.shape[field]?.description;
  return new Failure('bad-setting', `${source ?? 'settings'}${deeper}: ${issue?.message ?? 'does not fit'}`, about === undefined ? {} : { remedy: `${field}: ${about}` });
}

function unknownSetting(name: string, before: string, fields: readonly string[], write: (field: string) => string): Failure {
  const likely = nearestWord(name, fields.map(write));
  return new Failure('bad-setting', `${before}${name} is not a setting${likely === null ? '' : `; did you mean ${likely}?`}`, {
    remedy: '--help lists every setting.',
  });
}

/** The text of `--help`. */
export function describeSettings(settings: Settings<z.ZodObject>): string {
  const lines = [`${settings.name}: ${settings.about}`, '', 'Settings (config file, environment, option; later wins):', '  --config FILE', '      A .json or .toml file of settings.'];
  for (const [field, type] of Object.entries(settings.schema.shape)) {
    lines.push(`  ${field}  --${optionName(field)}  ${variableName(settings.prefix, field)}`);
    const fallback = type.safeParse(undefined);
    const ending = fallback.success ? (fallback.data === undefined ? ' (optional)' : ` (default ${JSON.stringify(fallback.data)})`) : ' (needed)';
    lines.push(`      ${type.description ?? ''}${ending}`);
  }
  return `${lines.join('\n')}\n`;
}

/** `natsUrl` -> `nats-url`. */
function optionName(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `natsUrl` -> `PREFIX_NATS_URL`. */
function variableName(prefix: string, field: string): string {
  return `${prefix}_${optionName(field).replaceAll('-', '_').toUpperCase()}`;
}

/** Text becomes what the field wants: itself where text fits, else the JSON it is, else a list split at commas. */
function fromText(schema: z.ZodObject, field: string, text: string): unknown {
  const type = schema.shape[field];
  if (type === undefined || type.safeParse(text).success) return text;
  try {
    return JSON.parse(text);
  } catch {
    const list = text.split(',').map((part) => part.trim());
    return type.safeParse(list).success ? list : text;
  }
}

function splitOnce(text: string, mark: string): [string, string | undefined] {
  const place = text.indexOf(mark);
  return place < 0 ? [text, undefined] : [text.slice(0, place), text.slice(place + mark.length)];
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
