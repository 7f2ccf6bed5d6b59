import { Failure, codeOf } from '../../kit/errors.ts';
import { configuredAnswerSchema, envAnswerSchema, secretsAnswerSchema } from '../api/answers.ts';
import { manifestFile } from '../manifest/read.ts';
import type { Client } from './client.ts';
import { jsonUpload } from './client.ts';
import { follow } from './deploy.ts';
import { readSecret } from './secret-input.ts';
import { checkManifest } from './send-folder.ts';
import { showEnv, showSecrets } from './show.ts';
import type { Terminal } from './terminal.ts';

export interface ChangeOptions {
  /** The app; undefined: that of the manifest in this folder. */
  readonly app?: string;
  readonly watch: boolean;
}

const pathOf = (app: string, kind: 'env' | 'secrets'): string => `/apps/${encodeURIComponent(app)}/${kind}`;

export async function setEnv(words: readonly string[], options: ChangeOptions, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  await change('env', { set: Object.fromEntries(words.map(splitWord)) }, options, await client(), terminal);
}

function splitWord(word: string): [name: string, value: string] {
  const at = word.indexOf('=');
  if (at > 0) return [word.slice(0, at), word.slice(at + 1)];
  throw new Failure('command-line', `${JSON.stringify(word)} is not of the form NAME=VALUE`, { remedy: 'conduit env set NAME=VALUE' });
}

export async function unsetNames(kind: 'env' | 'secrets', names: readonly string[], options: ChangeOptions, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  await change(kind, { unset: names }, options, await client(), terminal);
}

/** The value comes from a file, from stdin or from a terminal that does not show it: words of a command stand in the list of processes. */
export async function setSecret(name: string, options: ChangeOptions & { readonly file?: string; readonly mustBeSet: boolean }, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  if (name.includes('=')) {
    // Not a letter of it is repeated.
    throw new Failure('command-line', 'a secret’s value is not given on the command line, where others can read it', {
      remedy: 'conduit secrets set NAME < FILE, or without a file to be asked for it. Take the one you have typed for known to others.',
    });
  }
  const conduit = await client();
  const app = await appOf(options);
  if (options.mustBeSet) {
    const { secrets } = await conduit.get(pathOf(app, 'secrets'), secretsAnswerSchema);
    if (!secrets.some((one) => one.name === name)) throw new Failure('variable-unknown', `${app} has no secret of that name`, { remedy: '`conduit secrets list` shows those it has; `conduit secrets set` sets a new one.' });
  }
  await change('secrets', { set: { [name]: await readSecret(name, options.file) } }, { ...options, app }, conduit, terminal);
}

export async function listEnv(options: { readonly app?: string }, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  const answer = await (await client()).get(pathOf(await appOf(options), 'env'), envAnswerSchema);
  terminal.tell(answer);
  showEnv(answer, terminal);
}

export async function listSecrets(options: { readonly app?: string }, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  const answer = await (await client()).get(pathOf(await appOf(options), 'secrets'), secretsAnswerSchema);
  terminal.tell(answer);
  showSecrets(answer, terminal);
}

async function change(kind: 'env' | 'secrets', asked: { set?: Record<string, string>; unset?: readonly string[] }, options: ChangeOptions, conduit: Client, terminal: Terminal): Promise<void> {
  const answer = await conduit.send('PATCH', pathOf(await appOf(options), kind), configuredAnswerSchema, jsonUpload(asked));
  if (answer.changed) return follow(answer, options, conduit, terminal);
  terminal.tell({ type: 'release', ...answer });
  terminal.say(`Nothing changes: release ${answer.release} has it already.`);
}

/** The app that is meant: the one named, or that of the manifest here. */
export async function appOf({ app }: { readonly app?: string }): Promise<string> {
  if (app !== undefined) return app;
  try {
    return (await checkManifest('.')).app;
  } catch (thrown) {
    if (codeOf(thrown) !== 'manifest-missing') throw thrown;
    throw new Failure('command-line', `which app? There is no ${manifestFile} here`, { remedy: 'Name it with `--app APP`.', cause: thrown });
  }
}
