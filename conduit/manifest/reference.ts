import { z } from 'zod';
import { manifestSchema } from '../../kit/wire/manifest.ts';
import { meanings } from './meanings.ts';

/** What JSON Schema (draft 2020-12) says of a key, as far as manifests use it. */
interface Described {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly properties?: Readonly<Record<string, Described>>;
  readonly required?: readonly string[];
  readonly items?: Described;
  readonly additionalProperties?: Described | boolean;
}

export interface ReferenceRow {
  /** As in `meanings`: `volume[].name`. */
  readonly path: string;
  readonly needed: boolean;
  readonly described: Described;
}

/** Every key of the schema, in its order, a table's keys behind the table. */
export function referenceRows(): ReferenceRow[] {
  return rowsOf(z.toJSONSchema(manifestSchema, { io: 'input' }) as Described, '');
}

function rowsOf({ properties = {}, required = [] }: Described, above: string): ReferenceRow[] {
  return Object.entries(properties).flatMap(([key, described]) => {
    const path = above === '' ? key : `${above}.${key}`;
    const inner = described.items?.properties === undefined ? rowsOf(described, path) : rowsOf(described.items, `${path}[]`);
    return [{ path, needed: required.includes(key), described }, ...inner];
  });
}

/** The text of docs/guide/manifest.md. */
export function referenceText(rows: readonly ReferenceRow[] = referenceRows()): string {
  const top = rows.filter(({ path }) => !path.includes('.'));
  const inner = (table: string): ReferenceRow[] => rows.filter(({ path }) => path.startsWith(`${table}.`) || path.startsWith(`${table}[].`));
  const plain = top.filter(({ path }) => inner(path).length === 0);
  const tables = top.filter(({ path }) => inner(path).length > 0);
  return [
    '<!-- Made by `npm run docs:manifest` from kit/wire/manifest.ts and conduit/manifest/meanings.ts: change those. -->',
    '# edgepoint.toml',
    'One file at the root of an app’s folder, in [TOML](https://toml.io/en/v1.0.0). Needed are `app`, `command` and `port`; `conduit init` writes it, guessed from what is there. A key that is not here is refused, with its line and the likely word, and so is a value that does not fit.',
    tableText(plain),
    ...tables.map((row) => [headingOf(row), meanings[row.path] ?? '', tableText(inner(row.path))].join('\n\n')),
  ].join('\n\n').concat('\n');
}

function headingOf({ path, described }: ReferenceRow): string {
  const several = described.type === 'array';
  return `## ${several ? `\`[[${path}]]\`, ${described.maxItems ?? 'any number'} at most` : `\`[${path}]\``}`;
}

function tableText(rows: readonly ReferenceRow[]): string {
  const lines = rows.map(({ path, needed, described }) => {
    const key = path.split('.').at(-1) ?? '';
    return `| \`${key}\` | ${meanings[path] ?? ''} | ${kindOf(described)} | ${needed ? 'needed' : defaultOf(described)} |`;
  });
  return ['| key | what it means | what it may be | when missing |', '|---|---|---|---|', ...lines].join('\n');
}

function defaultOf({ default: value }: Described): string {
  if (value === undefined || JSON.stringify(value) === '{}') return '';
  return `\`${JSON.stringify(value)}\``;
}

function kindOf(described: Described): string {
  if (described.enum !== undefined) return described.enum.map((value) => `\`${JSON.stringify(value)}\``).join(', ');
  if (described.type === 'array') return `${described.minItems ?? 0} to ${described.maxItems} texts${lengthOf(described.items ?? {})}`;
  if (described.type === 'object') return `a table of texts${typeof described.additionalProperties === 'object' ? lengthOf(described.additionalProperties) : ''}`;
  if (described.type === 'string') return `a text${lengthOf(described)}`;
  if (described.type === 'boolean') return '`true` or `false`';
  const least = described.exclusiveMinimum === undefined ? `${described.minimum ?? ''}` : `above ${described.exclusiveMinimum}`;
  return `${described.type === 'integer' ? 'a whole number' : 'a number'}, ${least} to ${described.maximum ?? ''}`;
}

const lengthOf = ({ maxLength }: Described): string => (maxLength === undefined ? '' : ` of at most ${maxLength} characters`);
