import { Failure } from '../../kit/errors.ts';

export interface CommandResult {
  readonly exitCode: number;
  readonly output: string;
}

/** Runs a program to its end, with stdout and stderr in one text (the last 64 KiB of it). Never throws for its exit code. */
export async function runCommand(argv: readonly string[], options: { env?: Record<string, string>; timeoutMs?: number } = {}): Promise<CommandResult> {
  const [program] = argv;
  if (program === undefined || Bun.which(program, { PATH: searchPath }) === null) {
    return { exitCode: 127, output: `${program ?? 'nothing'}: not found` };
  }
  const child = Bun.spawn([...argv], {
    env: { ...process.env, PATH: searchPath, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive', ...options.env },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const timer = options.timeoutMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), options.timeoutMs);
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const exitCode = await child.exited;
  clearTimeout(timer);
  return { exitCode, output: `${stdout}${stderr}`.slice(-65_536) };
}

/** sbin is not in everybody's PATH, not even root's after `su`. */
const searchPath = `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;

/** As runCommand, but an exit code other than 0 is a Failure that shows the end of the output. */
export async function requireCommand(argv: readonly string[], code: string, remedy: string, env: Record<string, string> = {}): Promise<string> {
  const result = await runCommand(argv, { env });
  if (result.exitCode === 0) return result.output;
  throw commandFailure(argv, result, code, remedy);
}

const pausesMs = [2_000, 5_000];

/** For what needs the network: three attempts, 2 s and 5 s apart; `before` runs ahead of each one. */
export async function retryCommand(
  argv: readonly string[],
  options: { code: string; remedy: string; before?: () => Promise<void>; say: (text: string) => void },
): Promise<string> {
  for (let attempt = 0; ; attempt += 1) {
    await options.before?.();
    const result = await runCommand(argv);
    if (result.exitCode === 0) return result.output;
    const pauseMs = pausesMs[attempt];
    if (pauseMs === undefined) throw commandFailure(argv, result, options.code, options.remedy);
    options.say(`${argv[0] ?? ''} failed (exit code ${result.exitCode}), trying again in ${pauseMs / 1000} s: ${lastLine(result.output)}`);
    await Bun.sleep(pauseMs);
  }
}

function commandFailure(argv: readonly string[], result: CommandResult, code: string, remedy: string): Failure {
  const tail = result.output.trimEnd().split('\n').slice(-12).join('\n  ');
  return new Failure(code, `${argv.join(' ')} ended with exit code ${result.exitCode}:\n  ${tail}`, { remedy });
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? '';
}
