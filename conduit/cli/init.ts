import { readFile, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { Failure, codeOf } from '../../kit/errors.ts';
import { manifestFile } from '../manifest/read.ts';
import { guessInstaller } from './recognise.ts';
import type { Terminal } from './terminal.ts';

export interface Guess {
  readonly app: string;
  readonly command: readonly string[];
  readonly port: number;
  /** Which program installs what it depends on, when the platform is to; null: nothing is installed. */
  readonly install: 'npm' | null;
  /** What each was guessed from. */
  readonly from: { readonly command: string; readonly port: string };
}

/** Guesses from what lies in the folder. `readText` returns null for a file that is not there. */
export async function guessManifest(folderName: string, readText: (path: string) => Promise<string | null>): Promise<Guess> {
  const described = parseObject((await readText('package.json')) ?? '');
  const app = nameFrom(typeof described['name'] === 'string' ? described['name'] : folderName);
  const { command, from } = await guessCommand(described, readText);
  const source = command[0] === 'node' && command[1] !== undefined ? ((await readText(command[1])) ?? '') : '';
  const port = /(?:PORT\s*(?:\|\||\?\?)\s*|\.listen\(\s*)['"]?(\d{2,5})/.exec(source)?.[1];
  const installs = await guessInstaller({ read: readText });
  return { app, command, port: Number(port ?? 3000), install: installs?.install ?? null, from: { command: from, port: port === undefined ? 'a usual default; set the port your app listens on' : `guessed from ${command[1]}` } };
}

async function guessCommand(described: Record<string, unknown>, readText: (path: string) => Promise<string | null>): Promise<{ command: readonly string[]; from: string }> {
  const scripts = described['scripts'];
  const start = typeof scripts === 'object' && scripts !== null && 'start' in scripts ? String(scripts.start) : '';
  // Only a plain command can become an argv; what a shell would read otherwise is left to the author.
  if (/^[\w@%+=:,./ -]+$/.test(start)) return { command: start.trim().split(/\s+/), from: 'from "start" in package.json' };
  if (typeof described['main'] === 'string' && (await readText(described['main'])) !== null) return { command: ['node', described['main']], from: 'from "main" in package.json' };
  for (const file of ['server.js', 'index.js', 'app.js', 'main.js', 'server.mjs', 'index.mjs']) {
    if ((await readText(file)) !== null) return { command: ['node', file], from: `${file} is in the folder` };
  }
  return { command: ['node', 'server.js'], from: 'nothing was found to guess from; say how your app starts' };
}

export function manifestText(guess: Guess): string {
  return `# What the edgepoints need to know to run this app. Only app, command and port are needed.

# The name: the app's address begins with it.
app = ${JSON.stringify(guess.app)}

# How the program starts, in /app, which holds this folder (${guess.from.command}).
command = [${guess.command.map((word) => JSON.stringify(word)).join(', ')}]

# The port it listens on for HTTP; also handed to it as PORT (${guess.from.port}).
port = ${guess.port}

# What sleeping keeps. "template": every wake begins from the snapshot taken after the first start.
# "keep": one instance, whose memory and disk continue where they were.
# state = "template"

# httpsOnly = true          # plain HTTP is always sent to https; false: never
# proxyProtocol = "v2"      # each connection begins with whose requests it carries

# How much an instance may use: small, medium or large.
# offering = "small"

${guess.install === null ? '' : buildText(guess.install)}# [env]
# NODE_ENV = "production"

# Ready when GET answers below 500.
# [probe]
# path = "/"
# timeoutSeconds = 60

# Requests made once before the snapshot, so that every wake begins warm.
# [[warmup]]
# path = "/"

# A folder that outlives instances.
# [[volume]]
# name = "storage"
# path = "/data"
# sizeMegabytes = 256

# Another process beside the first, in the same instance.
# [[process]]
# name = "worker"
# command = ["node", "worker.js"]

# A TCP or UDP port of an address of its own, beside HTTP.
# [[ownPort]]
# protocol = "tcp"
# port = 7000

# A file that says in each copy who it is.
# [[file]]
# path = "/run/edgepoint/me.json"
# text = '{"instance": "{instance}", "address": "{address}"}'

# [scale]
# max = 8            # most instances at one edgepoint
# concurrency = 16   # requests one instance handles at once
# idleSeconds = 15   # asleep after so long without a request
`;
}

const buildText = (install: string): string => `# The platform installs what package-lock.json names; your own node_modules are not sent.
[build]
install = ${JSON.stringify(install)}
# command = ["npm", "run", "build"]

`;

export async function initFolder(folder: string, terminal: Terminal): Promise<void> {
  const path = join(folder, manifestFile);
  const guess = await guessManifest(basename(resolve(folder)), (name) => readIfThere(join(folder, name)));
  try {
    await writeFile(path, manifestText(guess), { flag: 'wx' });
  } catch (thrown) {
    if (codeOf(thrown) !== 'EEXIST') throw thrown;
    throw new Failure('manifest-exists', `${path} is there already`, { remedy: 'Edit it, or remove it first.' });
  }
  terminal.tell({ path, ...guess });
  terminal.say(`Wrote ${path}:`);
  terminal.say(`  app      ${guess.app}`);
  terminal.say(`  command  ${guess.command.join(' ')}   (${guess.from.command})`);
  terminal.say(`  port     ${guess.port}   (${guess.from.port})`);
  terminal.say('Look it over, then `conduit check` and `conduit deploy`.');
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (thrown) {
    if (['ENOENT', 'EISDIR', 'ENOTDIR'].includes(codeOf(thrown))) return null;
    throw thrown;
  }
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    // A package.json that is no JSON tells nothing; npm itself will complain of it.
    return {};
  }
}

/** The nearest name that may stand in DNS. */
function nameFrom(text: string): string {
  const plain = text.toLowerCase().replace(/^@[^/]*\//, '').replace(/[^a-z0-9]+/g, '-').replace(/^[^a-z]+/, '').slice(0, 40).replace(/-+$/, '');
  return plain === '' ? 'app' : plain;
}
