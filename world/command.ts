import { Failure } from '../kit/errors.ts';

export interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Runs a program to its end. Never throws for its exit code. */
export async function run(argv: readonly string[], options: { input?: string; env?: Record<string, string>; cwd?: string } = {}): Promise<Ran> {
  const child = Bun.spawn([...argv], {
    env: { PATH: searchPath, LC_ALL: 'C', ...options.env },
    cwd: options.cwd ?? '/',
    stdin: options.input === undefined ? 'ignore' : new Blob([options.input]),
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const [stdout, stderr, exitCode] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  return { exitCode, stdout, stderr };
}

/** As run, but throws a Failure that shows what the program said. */
export async function must(argv: readonly string[], options: { input?: string; env?: Record<string, string> } = {}): Promise<string> {
  const ran = await run(argv, options);
  if (ran.exitCode === 0) return ran.stdout;
  throw new Failure('command-failed', `${argv.join(' ')} ended with exit code ${ran.exitCode}: ${ran.stderr.trim() || ran.stdout.trim()}`);
}
