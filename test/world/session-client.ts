import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Test } from 'tap';
import { instanceProcesses, runCommand, until } from './faults/fault-world.ts';
import type { FaultWorld, Provider } from './faults/fault-world.ts';
import { bunPath } from './held-world.ts';

const cli = [bunPath, join(import.meta.dirname, '../../conduit/cli/main.ts')];
const envOf = (world: FaultWorld, provider: Provider): Record<string, string> => ({ PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', CONDUIT_URL: world.held.description.conduitUrl, CONDUIT_TOKEN: provider.token, TERM: 'xterm' });

interface Ended {
  readonly exitCode: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** The real command as a process, whose stdin is the test's. */
export function begin(t: Test, world: FaultWorld, provider: Provider, words: readonly string[]) {
  const child = spawn(cli[0] ?? '', [...cli.slice(1), ...words], { env: envOf(world, provider), stdio: ['pipe', 'pipe', 'pipe'] });
  const out: Buffer[] = [];
  let said = '';
  child.stdout.on('data', (bytes: Buffer) => out.push(bytes));
  child.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()));
  child.stdin.on('error', () => undefined); // it may end before it has read all
  const ended = new Promise<Ended>((resolve) => child.once('close', (exitCode) => resolve({ exitCode, stdout: Buffer.concat(out), stderr: said })));
  t.teardown(() => child.kill('SIGKILL'));
  return { child, ended, stdout: () => Buffer.concat(out).toString(), stderr: () => said };
}

export async function run(t: Test, world: FaultWorld, provider: Provider, words: readonly string[], input: string | Buffer = ''): Promise<Ended & { readonly text: string }> {
  const begun = begin(t, world, provider, words);
  begun.child.stdin.end(input);
  const ended = await begun.ended;
  return { ...ended, text: ended.stdout.toString() };
}

/** Process ids whose command line begins so, of this machine. */
function processesCalled(fits: (words: readonly string[]) => boolean): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      return fits(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0'));
    } catch {
      return false; // it has ended
    }
  });
}

/** What the test's commands have left running, in instances of this world. */
export function sleeps(world: FaultWorld): number[] {
  const own = new Set(instanceProcesses(world.id));
  return processesCalled(([name, seconds]) => name === 'sleep' && /^432\d$/.test(seconds ?? '')).filter((pid) => own.has(pid));
}

/** Command lines that speak with this world's conduit. */
export function clientsOf(world: FaultWorld): number[] {
  return processesCalled((words) => words.includes('ssh') && words.some((word) => word.endsWith('conduit/cli/main.ts'))).filter((pid) => readFileSync(`/proc/${pid}/environ`, 'utf8').includes(world.held.description.conduitUrl));
}

/** The command on a terminal of its own, 33 by 99, in a shell that says how it ended (script(1)). */
export function openTerminal(t: Test, world: FaultWorld, provider: Provider, words: readonly string[]) {
  const command = [...cli, ...words].map((word) => `'${word}'`).join(' ');
  const child = spawn('script', ['-qfc', `stty rows 33 cols 99; echo pty $(tty); ${command}; echo ended $?; sleep 600`, '/dev/null'], { env: envOf(world, provider), stdio: ['pipe', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (bytes: Buffer) => (said += bytes.toString()));
  t.teardown(() => child.kill('SIGKILL'));
  // Without what colours it, and what tells a terminal how to take a paste.
  const read = (): string => stripVTControlCharacters(said).replaceAll('\r', '');
  const saw = (what: RegExp): boolean => what.test(read());
  return {
    said: read,
    saw,
    sees: (what: RegExp) => until(() => `${what} in ${JSON.stringify(said)}`, () => saw(what), 60_000),
    type: (text: string) => void child.stdin.write(text),
    /** stty(1) on it, from outside. */
    stty: async (...args: string[]): Promise<string> => (await runCommand(['stty', '-F', /^pty (\S+)$/m.exec(read())?.[1] ?? '', ...args])).stdout,
    end: () => child.kill('SIGKILL'),
  };
}

/** A conduit that has just begun knows an edgepoint when that has said that it is there. */
export function isReady(provider: Provider, app: string): Promise<void> {
  return until('every edgepoint of it can be reached', async () => (await provider.status(app)).sites.every(({ reachable, state }) => reachable && state?.status === 'ready'), 60_000);
}

export function sessionsLeft(world: FaultWorld): string[] {
  return world.edgepoints.flatMap(({ runFolder }) => readdirSync(runFolder).filter((name) => name.startsWith('session-')));
}
