import { existsSync } from 'node:fs';
import { setPriority } from 'node:os';
import { codeOf, Failure } from '../../kit/errors.ts';

/** What a pager is to take the memory of: see pager.c. */
export interface PagerOrder {
  readonly memoryCgroup: string;
  readonly pid: number;
  readonly heldPath: string;
  readonly pagerPath: string;
  readonly hotPath: string;
  /** Bytes it may hold. */
  readonly heldBytesMax: number;
}

/** It takes 250 MB a second; one that takes so long is stuck, and so is the instance: better none. */
const stuckMs = 120_000;

/** It has taken what it takes, and the instance stands still until `letGo`; then it holds so many bytes. */
export interface PagerAtWork {
  readonly stoppedNs: number;
  letGo(): Promise<{ heldBytes: number }>;
}

/**
 * Starts a pager and waits until it has taken the instance's memory, or part of it when `cut` came before. A refusal, after which the
 * instance is as it was, is a string. `onStart` gets the processes that may outlive this one.
 */
export async function startPager(boxProgram: string, order: PagerOrder, cut: AbortSignal, bootNs: () => number, onStart: (pid: number) => void): Promise<PagerAtWork | string> {
  const words = ['--cgroup', order.memoryCgroup, '--instance', `${order.pid}`, '--held', order.heldPath, '--socket', order.pagerPath, '--most', `${Math.floor(order.heldBytesMax)}`];
  const child = Bun.spawn([boxProgram, 'pager', ...words, ...(existsSync(order.hotPath) ? ['--keep', order.hotPath] : [])], { stdin: 'pipe', stdout: 'pipe', stderr: 'pipe' });
  child.unref();
  const why = new Response(child.stderr).text();
  const next = lineReader(child.stdout);
  const letGo = (): void => void child.stdin.end();
  let stoppedNs = 0;
  let working = child.pid;
  const hurry = (): void => {
    letGo();
    ifThere(() => setPriority(working, 0)); // it works at the lowest one
  };
  cut.addEventListener('abort', hurry);

  /* Its guard ends the instance then, if there is anything that only it had. */
  const stuck = setTimeout(() => ifThere(() => process.kill(working, 'SIGKILL')), stuckMs);

  async function expect(wanted: string): Promise<string> {
    for (;;) {
      const line = await next();
      /* Its guard may live on, until what was frozen is thawed and dead. */
      if (line === null) throw new Failure('cannot-freeze', (await why).trim() || `edgepoint-box pager ended too early (${child.signalCode ?? child.exitCode ?? 'it was killed'})`);
      const [word = '', ...rest] = line.split(' ');
      if (word === 'pages') onStart((working = Number(rest[0])));
      if (word === 'stopped') stoppedNs = bootNs();
      if (word === 'refused') return line;
      if (word === wanted) return rest.join(' ');
    }
  }

  try {
    const stored = await expect('stored');
    if (stored.startsWith('refused ')) {
      letGo();
      return stored.slice('refused '.length);
    }
    return {
      stoppedNs,
      letGo: async () => {
        letGo();
        const held = await expect('held');
        return { heldBytes: Number(held) || 0 };
      },
    };
  } finally {
    cut.removeEventListener('abort', hurry);
    clearTimeout(stuck);
  }
}

function ifThere(act: () => void): void {
  try {
    act();
  } catch (error) {
    if (codeOf(error) !== 'ESRCH') throw error; // it has ended
  }
}

/** The next line of a stream, each time; null at its end. */
function lineReader(stream: ReadableStream<Uint8Array>): () => Promise<string | null> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let text = '';
  return async () => {
    for (;;) {
      const end = text.indexOf('\n');
      if (end >= 0) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        return line;
      }
      const { done, value } = await reader.read();
      if (done) return null;
      text += decoder.decode(value, { stream: true });
    }
  };
}
