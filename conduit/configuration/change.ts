import { Failure } from '../../kit/errors.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';

/** What a provider has set of an app beside its manifest. It belongs to a release: another release has the same or another. */
export interface Configuration {
  readonly env: Readonly<Record<string, string>>;
  readonly secrets: Readonly<Record<string, Secret>>;
}

export interface Secret {
  readonly value: string;
  readonly setWallMs: number;
  /** The release that began with this value. */
  readonly release: number;
}

export interface ConfigurationChange {
  readonly kind: 'env' | 'secrets';
  readonly set: Readonly<Record<string, string>>;
  readonly unset: readonly string[];
}

export const noConfiguration: Configuration = { env: {}, secrets: {} };

/**
 * What one message and one process can carry: execve(2) takes 128 KiB a variable and 2 MiB of all, a message of the bus 1 MiB, in which the
 * manifest stands too.
 */
export const configurationLimits = { namesMax: 128, valueBytesMax: 32 * 1024, bytesMax: 64 * 1024 } as const;

/** With the manifest's own; less than the 512 of edgepoint-box, which has some of its own. */
const variablesMax = 480;

const variablePattern = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
/** Always true of the instance, so nobody may say otherwise. */
const isReserved = (name: string): boolean => name === 'PORT' || name.startsWith('EDGEPOINT_');

/**
 * The configuration after a change, and the change in a few words that tell no value; null when nothing changes. A secret that is set counts as
 * changed whatever it was: whether a guess is right must not be found out this way. Throws a Failure that tells no value either.
 */
export function changeConfiguration(before: Configuration, change: ConfigurationChange, at: { readonly release: number; readonly wallMs: number }): { readonly after: Configuration; readonly about: string } | null {
  const names = Object.keys(change.set);
  if (names.length + change.unset.length === 0) throw new Failure('change-empty', 'nothing to set and nothing to unset was named');
  for (const [name, value] of Object.entries(change.set)) judgeVariable(change.kind, name, value);
  const other = change.kind === 'env' ? before.secrets : before.env;
  const taken = names.find((name) => Object.hasOwn(other, name));
  if (taken !== undefined) throw takenFailure(change.kind, taken);
  const own = before[change.kind];
  const missing = change.unset.find((name) => !Object.hasOwn(own, name));
  if (missing !== undefined) throw unknownVariable(change.kind, missing);

  const { after, differs } = change.kind === 'env' ? changeEnv(before, change) : changeSecrets(before, change, at);
  if (!differs) return null;
  judgeSize(after, change.kind);
  const words = [...(names.length > 0 ? [`set ${names.join(', ')}`] : []), ...(change.unset.length > 0 ? [`unset ${change.unset.join(', ')}`] : [])];
  return { after, about: `${change.kind}: ${words.join('; ')}` };
}

function changeEnv(before: Configuration, { set, unset }: ConfigurationChange): { after: Configuration; differs: boolean } {
  const env = without({ ...before.env, ...set }, unset);
  return { after: { ...before, env }, differs: unset.length > 0 || Object.entries(set).some(([name, value]) => before.env[name] !== value) };
}

function changeSecrets(before: Configuration, { set, unset }: ConfigurationChange, at: { release: number; wallMs: number }): { after: Configuration; differs: boolean } {
  const fresh = Object.fromEntries(Object.entries(set).map(([name, value]) => [name, { value, setWallMs: at.wallMs, release: at.release }]));
  return { after: { ...before, secrets: without({ ...before.secrets, ...fresh }, unset) }, differs: true };
}

function without<T>(record: Readonly<Record<string, T>>, names: readonly string[]): Record<string, T> {
  return Object.fromEntries(Object.entries(record).filter(([name]) => !names.includes(name)));
}

function judgeVariable(kind: ConfigurationChange['kind'], name: string, value: string): void {
  // What is no name may be a value in the wrong place, so it is not repeated.
  if (!variablePattern.test(name)) {
    throw new Failure('variable-name', 'a name of what was to be set is no name of a variable', { remedy: 'A name is letters, digits and underscores, 1 to 128 of them, and does not begin with a digit.' });
  }
  if (isReserved(name)) throw new Failure('variable-reserved', `${name} is set by the edgepoint`, { remedy: 'Choose another name than PORT and those that begin with EDGEPOINT_.' });
  if (value.includes('\0')) throw new Failure('value-invalid', `the value of ${name} has a NUL in it, which no variable can hold`, { remedy: 'Encode it, as base64 for one.' });
  if (kind === 'secrets' && value === '') throw new Failure('secret-empty', `the value of ${name} is empty`, { remedy: 'Did what should have written it fail? `conduit secrets unset` takes a secret away.' });
  const bytes = Buffer.byteLength(value);
  const { valueBytesMax } = configurationLimits;
  if (bytes > valueBytesMax) {
    throw new Failure('value-too-big', `the value of ${name} has ${bytes} bytes; ${valueBytesMax} are allowed`, { remedy: 'Keep what is bigger in the artefact, in a volume or elsewhere, and its key here.' });
  }
}

function judgeSize({ env, secrets }: Configuration, kind: ConfigurationChange['kind']): void {
  const { namesMax, bytesMax } = configurationLimits;
  const values = kind === 'env' ? Object.entries(env) : Object.entries(secrets).map(([name, { value }]) => [name, value] as const);
  if (values.length > namesMax) throw new Failure('too-many-variables', `with this there would be ${values.length} of them; ${namesMax} are allowed`, { remedy: `\`conduit ${kind} unset\` takes some away.` });
  const bytes = values.reduce((sum, [name, value]) => sum + name.length + Buffer.byteLength(value), 0);
  if (bytes > bytesMax) {
    throw new Failure('configuration-too-big', `with this they would have ${bytes} bytes together; ${bytesMax} are allowed`, { remedy: `\`conduit ${kind} unset\` takes some away.` });
  }
}

function takenFailure(kind: ConfigurationChange['kind'], name: string): Failure {
  if (kind === 'env') return new Failure('variable-is-secret', `${name} is a secret`, { remedy: `\`conduit secrets unset ${name}\` first, if everybody who may list the app’s variables may read it.` });
  return new Failure('variable-is-plain', `${name} is set as a variable that can be read`, { remedy: `\`conduit env unset ${name}\` first. Its value has been stored in clear text: choose another for the secret.` });
}

export function unknownVariable(kind: ConfigurationChange['kind'], name: string): Failure {
  const said = variablePattern.test(name) ? name : 'what was named';
  return new Failure('variable-unknown', `${said} is not set`, { remedy: `\`conduit ${kind} list\` shows what is.` });
}

/**
 * The manifest as the edgepoints get it: what was set goes over whatever the manifest says of the same name, in a further process too.
 * Throws a Failure when all together are more than an instance can be given.
 */
export function configuredManifest(manifest: Manifest, { env, secrets }: Configuration): Manifest {
  const set = [...Object.keys(env), ...Object.keys(secrets)];
  const process = manifest.process.map((one) => ({ ...one, env: without(one.env, set) }));
  const configured = { ...manifest, env: { ...without(manifest.env, set), ...env }, process };
  const count = Object.keys(configured.env).length + Object.keys(secrets).length;
  if (count <= variablesMax) return configured;
  throw new Failure('too-many-variables', `with those of the manifest there would be ${count} variables; ${variablesMax} are allowed`, { remedy: 'Take some out of `[env]`, or unset some.' });
}
