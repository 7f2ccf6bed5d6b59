import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import type { WorldDescription } from '../../world/start.ts';

/** A world held by a process of its own (`bun world.ts up --json`), for tests, which run on Node. */
export interface HeldWorld {
  readonly description: WorldDescription;
  readonly process: ChildProcess;
  /** What it said on stderr so far. */
  said(): string;
  /** Calls of world/remote.ts: describe, newProvider, addClient, runIn, kill. */
  call<T>(call: string, given?: Record<string, unknown>): Promise<T>;
  /** Ends it by SIGTERM and waits; returns its exit code. */
  stop(): Promise<number | null>;
}

const repository = join(import.meta.dirname, '../..');
export const bunPath = join(repository, 'node_modules/.bin/bun');
export const worldPath = join(repository, 'world.ts');

/** Brings a world up on port 0 and waits until it is ready; rejects with what it said when it does not come up. */
export async function holdWorld(args: readonly string[] = []): Promise<HeldWorld> {
  const child = spawn(bunPath, [worldPath, 'up', '--json', '--port', '0', ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const ended = new Promise<number | null>((resolve) => child.once('exit', (exitCode) => resolve(exitCode)));
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let nextId = 1;
  const ready = deferred<WorldDescription>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    const message = JSON.parse(line) as { id: number | string; result?: unknown; error?: { code: string; message: string } };
    if (typeof message.id === 'string') return ready.resolve(message as unknown as WorldDescription);
    const asked = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error !== undefined) asked?.reject(Object.assign(new Error(message.error.message), { code: message.error.code }));
    else asked?.resolve(message.result);
  });
  void ended.then((exitCode) => {
    const gone = new Error(`the world ended with exit code ${exitCode}: ${said}`);
    ready.reject(gone);
    for (const { reject } of waiting.values()) reject(gone);
  });
  return {
    description: await ready.promise,
    process: child,
    said: () => said,
    call: <T>(call: string, given: Record<string, unknown> = {}) =>
      new Promise<T>((resolve, reject) => {
        const id = nextId++;
        waiting.set(id, { resolve: (value) => resolve(value as T), reject });
        child.stdin.write(`${JSON.stringify({ id, call, with: given })}\n`);
      }),
    stop: () => {
      child.kill('SIGTERM');
      return ended;
    },
  };
}

/** Promise.withResolvers, which Node 20 has not. */
function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<T>((one, other) => {
    resolve = one;
    reject = other;
  });
  return { promise, resolve, reject };
}

export interface Ended {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `bun world.ts ARGS` to its end. */
export function runWorld(args: readonly string[], options: { uid?: number } = {}): Promise<Ended> {
  return runProgram(bunPath, [worldPath, ...args], options);
}

export function runProgram(program: string, args: readonly string[], options: { uid?: number; cwd?: string } = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }), ...(options.cwd === undefined ? {} : { cwd: options.cwd }) });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.once('error', reject).once('exit', (exitCode) => resolve({ exitCode, stdout, stderr }));
  });
}
