import { join } from 'node:path';
import type { WorldDescription } from '../world/start.ts';

/** A world held by a process of its own, which ends it and removes everything also when this process is killed: its stdin closes. */
export interface ChildWorld {
  readonly description: WorldDescription;
  /** Makes an account at the conduit; its token. */
  newProvider(name: string): Promise<string>;
  stop(): Promise<void>;
}

const repository = join(import.meta.dir, '..');
const bunPath = join(repository, 'node_modules/.bin/bun');

/** Brings a world up on free ports and waits until it is ready. */
export async function openChildWorld(): Promise<ChildWorld> {
  const child = Bun.spawn([bunPath, join(repository, 'world.ts'), 'up', '--json', '--port', '0'], { stdin: 'pipe', stdout: 'pipe', stderr: 'pipe' });
  const said = new Response(child.stderr).text();
  const lines = linesOf(child.stdout);
  const next = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done === true) throw new Error(`the world has ended: ${await said}`);
    return JSON.parse(value);
  };
  const description = (await next()) as WorldDescription;
  return {
    description,
    async newProvider(name) {
      void child.stdin.write(`${JSON.stringify({ id: 1, call: 'newProvider', with: { name } })}\n`);
      await child.stdin.flush();
      const answer = (await next()) as { result?: string; error?: { message: string } };
      if (answer.result === undefined) throw new Error(answer.error?.message);
      return answer.result;
    },
    async stop() {
      child.kill('SIGTERM');
      if ((await child.exited) !== 0) throw new Error(`the world did not end well: ${await said}`);
    },
  };
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let held = '';
  const reader = stream.getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    const bytes = read.value;
    const parts = `${held}${decoder.decode(bytes, { stream: true })}`.split('\n');
    held = parts.pop() ?? '';
    yield* parts;
  }
}

/** Deploys a folder by the command line and waits until every edgepoint is ready. */
export async function deployFolder(folder: string, about: { conduitUrl: string; token: string }): Promise<void> {
  const env = { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', CONDUIT_URL: about.conduitUrl, CONDUIT_TOKEN: about.token, NO_COLOR: '1' };
  const child = Bun.spawn([bunPath, join(repository, 'conduit/cli/main.ts'), 'deploy', folder], { env, stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`conduit deploy ${folder}: ${stdout}${stderr}`);
}
