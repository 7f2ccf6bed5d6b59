import { parse, stringify, TomlError } from 'smol-toml';
import { Failure } from '../../../kit/errors.ts';
import { manifestFailure, readManifest } from '../../manifest/read.ts';
import type { Manifest } from '../../../kit/wire/manifest.ts';
import type { ImageConfig } from './config.ts';

export interface ImageWish {
  /** Of edgepoint.toml; empty when there is none. */
  readonly manifestText: string;
  readonly config: ImageConfig;
  /** What the image is called where it came from, without a tag; may be empty. */
  readonly imageName: string;
  /** `--name` and `--port`. */
  readonly name?: string;
  readonly port?: number;
}

/** Where Cloud Run and Knative look for a program whose image exposes no port; told to it as PORT. */
const portDefault = 8080;
const variableName = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

/**
 * The manifest of an app that is an image: what its own says, and where that says nothing, the image's config (OCI image specification,
 * config.md, "Properties"). `text` is what is sent; `notes` are sentences on what was left out.
 */
export function manifestOfImage(wish: ImageWish): { readonly text: string; readonly manifest: Manifest; readonly notes: readonly string[] } {
  const own = readOwn(wish.manifestText);
  const config = wish.config.config ?? { Env: [], Entrypoint: [], Cmd: [] };
  const notes: string[] = [];
  const variables = variablesOf(config.Env, notes);
  const { PORT: portVariable, ...env } = variables;
  const command = own['command'] ?? commandOf(config);
  const port = wish.port ?? own['port'] ?? portOf(config.ExposedPorts ?? {}, portVariable);
  const user = own['user'] ?? userOf(config.User ?? '');
  for (const path of Object.keys(config.Volumes ?? {})) notes.push(`The image declares a volume at ${path}: what is written there ends with an instance, unless the manifest has a [[volume]] there.`);
  const text = stringify({
    ...own,
    app: wish.name ?? own['app'] ?? nameOf(wish.imageName),
    command,
    port,
    ...(user === '' ? {} : { user }),
    workingDirectory: own['workingDirectory'] ?? (config.WorkingDir || '/'),
    env: { ...env, ...(own['env'] as Record<string, string> | undefined) },
    image: { layers: wish.config.rootfs.diff_ids },
  } as Table);
  const read = readManifest(text);
  // The lines are those of the text that is sent, which nobody has seen.
  if (!read.ok) throw manifestFailure(read.problems.map((problem) => ({ ...problem, text: problem.text.replace(/^edgepoint\.toml:\d+:/, 'edgepoint.toml:') })));
  return { text, manifest: read.manifest, notes };
}

type Table = Parameters<typeof stringify>[0];

function readOwn(text: string): Record<string, unknown> {
  try {
    return parse(text);
  } catch (thrown) {
    if (!(thrown instanceof TomlError)) throw thrown;
    throw manifestFailure([{ line: thrown.line, text: `edgepoint.toml:${thrown.line}: this is not TOML` }]);
  }
}

function commandOf({ Entrypoint, Cmd }: { Entrypoint: readonly string[]; Cmd: readonly string[] }): string[] {
  const command = [...Entrypoint, ...Cmd];
  if (command.length > 0) return command;
  throw new Failure('image-command', 'the image says no command', { remedy: 'Give it an ENTRYPOINT or a CMD, or write `command` into edgepoint.toml.' });
}

function portOf(exposed: Readonly<Record<string, unknown>>, variable: string | undefined): number {
  const ports = Object.keys(exposed).flatMap((text) => {
    const [number = '', protocol = 'tcp'] = text.split('/');
    return protocol === 'tcp' && /^\d{1,5}$/.test(number) ? [Number(number)] : [];
  });
  if (variable !== undefined && /^\d{1,5}$/.test(variable)) return Number(variable);
  const [port = portDefault] = ports;
  if (ports.length < 2) return port;
  throw new Failure('image-port', `the image exposes several ports: ${ports.join(', ')}`, { remedy: 'Say which one answers HTTP: `--port`, or `port` in edgepoint.toml.' });
}

/** Empty for root, by whatever name. */
const userOf = (user: string): string => (['', '0', 'root', '0:0', 'root:root'].includes(user) ? '' : user);

function variablesOf(list: readonly string[], notes: string[]): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const text of list) {
    const equals = text.indexOf('=');
    const name = equals === -1 ? text : text.slice(0, equals);
    if (variableName.test(name)) variables[name] = equals === -1 ? '' : text.slice(equals + 1);
    else notes.push(`The variable ${JSON.stringify(name)} of the image is left out: a name has letters, digits and _.`);
  }
  return variables;
}

/** `registry:5000/team/My_Shop` is `my-shop`; empty when nothing of it can be a name. */
export function nameOf(imageName: string): string {
  const last = imageName.split('/').at(-1) ?? '';
  return last.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^[-0-9]+|-+$/g, '').slice(0, 40).replace(/-+$/, '');
}
