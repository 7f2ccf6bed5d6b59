import { join } from 'node:path';
import { run, searchPath } from '../command.ts';

/** The provider's command line, as a provider would use it, with credentials of its own. */
export interface CommandLine {
  /** Runs `conduit ...`, shows each line it prints, and returns its exit code. */
  show(argv: readonly string[]): Promise<number>;
  /** Runs `conduit ... --json` and parses what it prints. */
  json<T>(argv: readonly string[]): Promise<T>;
}

const entry = join(import.meta.dirname, '../../conduit/cli/main.ts');

export function openCommandLine(options: { conduitUrl: string; token: string; homeFolder: string; say: (line: string) => void }): CommandLine {
  const env = { PATH: searchPath, HOME: options.homeFolder, CONDUIT_URL: options.conduitUrl, CONDUIT_TOKEN: options.token, NO_COLOR: '1' };
  const command = (argv: readonly string[]): string[] => [process.execPath, entry, ...argv];
  return {
    async show(argv) {
      options.say(`$ conduit ${argv.join(' ')}`);
      const child = Bun.spawn(command(argv), { env, stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' });
      const print = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
        let held = '';
        const decoder = new TextDecoder();
        const reader = stream.getReader();
        for (let next = await reader.read(); !next.done; next = await reader.read()) {
          held += decoder.decode(next.value, { stream: true });
          const lines = held.split('\n');
          held = lines.pop() ?? '';
          for (const line of lines) options.say(`  ${line}`);
        }
        if (held !== '') options.say(`  ${held}`);
      };
      await Promise.all([print(child.stdout), print(child.stderr)]);
      return child.exited;
    },
    async json<T>(argv: readonly string[]): Promise<T> {
      const ran = await run([...command(argv), '--json'], { env });
      if (ran.exitCode !== 0) throw new Error(`conduit ${argv.join(' ')}: ${ran.stderr.trim()}`);
      return JSON.parse(ran.stdout) as T;
    },
  };
}
