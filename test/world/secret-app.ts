import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ask } from './faults/fault-world.ts';
import type { FaultWorld, Provider, Ran } from './faults/fault-world.ts';

/** Says of its secret only what it digests to, as it began with it and as its file has it now. */
export const server = `import { createServer } from 'node:http';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
const bootedMs = Date.now();
while (Date.now() - bootedMs < 300);
const digest = (text) => createHash('sha256').update(text ?? '').digest('hex');
const path = '/run/secrets/KEY';
createServer((request, response) => {
  if (request.url === '/crash') throw new Error('the program broke');
  if (request.url === '/log') console.log('a line of the program');
  response.end(JSON.stringify({ mark: process.env.MARK, env: digest(process.env.KEY), file: existsSync(path) ? digest(readFileSync(path, 'utf8')) : '' }));
}).listen(process.env.PORT, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
`;

export const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex');

export interface Said {
  readonly mark?: string;
  readonly env: string;
  readonly file: string;
}

export async function saidBy(ipv4: string, app: string, path = '/'): Promise<Said> {
  const answer = await ask({ host: ipv4, name: `${app}.edge.test`, path });
  if (answer.status !== 200) throw new Error(`${app}: ${answer.status} ${answer.error}${answer.body}`);
  return JSON.parse(answer.body) as Said;
}

export async function setSecret(world: FaultWorld, provider: Provider, app: string, value: string): Promise<Ran> {
  const file = join(world.folder, 'value');
  writeFileSync(file, value, { mode: 0o600 });
  const ran = await provider.conduit(['secrets', 'set', 'KEY', '--app', app, '--file', file]);
  if (ran.exitCode !== 0) throw new Error(`${ran.stdout}${ran.stderr}`);
  return ran;
}

/** Throws what it printed when it fails. */
export async function conduit(provider: Provider, words: readonly string[]): Promise<Ran> {
  const ran = await provider.conduit(words);
  if (ran.exitCode !== 0) throw new Error(`conduit ${words.join(' ')}: ${ran.stdout}${ran.stderr}`);
  return ran;
}
