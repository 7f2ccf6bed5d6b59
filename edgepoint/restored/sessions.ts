import { mkdirSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure, codeOf, messageOf } from '../../kit/errors.ts';
import { type InstanceCgroup, processesIn, sessionCgroup, sessionFolders } from '../box/cgroup.ts';

/** Of all instances of the edgepoint: the head opens fewer. */
const sessionsMax = 256;
const beginMs = 10_000;
const endMs = 10_000;

export interface SessionStart {
  readonly cgroup: InstanceCgroup;
  /** The first process of the instance; `isSame`: whether that number still means it. */
  readonly pid: number;
  readonly isSame: () => boolean;
  /** Of edgepoint-box: options, `--`, and the command. */
  readonly words: readonly string[];
}

/**
 * Sessions: commands that providers run in instances. Each has an edgepoint-box that passes its bytes on (enter.c), outside the instance
 * and without rights. What of a session is inside is known by a cgroup of its own, and ends when that edgepoint-box has ended.
 */
export interface Sessions {
  /** Waits for whoever connects. Failure `too-many-sessions` or `session-failed`. */
  begin(start: SessionStart): Promise<{ socketPath: string }>;
  /** Ends all that sessions have left in an instance, of an earlier restored too. */
  clear(cgroup: InstanceCgroup): Promise<void>;
}

export function openSessions(options: { runFolder: string; boxProgram: string; expectOrphan: (pid: number) => void; warn: (text: string, fields: Record<string, unknown>) => void }): Sessions {
  const { runFolder, boxProgram, expectOrphan, warn } = options;
  const running = new Set<string>();
  for (const name of readdirSync(runFolder)) if (/^session-.*\.sock$/.test(name)) rmSync(join(runFolder, name), { force: true });

  async function begin({ cgroup, pid, isSame, words }: SessionStart): Promise<{ socketPath: string }> {
    if (running.size >= sessionsMax) throw new Failure('too-many-sessions', `${sessionsMax} sessions are open at this edgepoint`);
    const name = `session-${crypto.randomUUID()}`;
    const socketPath = join(runFolder, `${name}.sock`);
    const { folders, own } = sessionCgroup(cgroup, name);
    mkdirSync(own);
    running.add(name);
    const argv = [boxProgram, 'enter', '--pid', `${pid}`, '--socket', socketPath, ...folders.flatMap((folder) => ['--cgroup', folder])];
    const child = Bun.spawn(argv, { stdin: 'pipe', stdout: 'pipe', stderr: 'pipe' });
    const said = new Response(child.stderr).text();
    const lines = linesOf(child.stdout);
    void child.exited.then(async () => {
      // A command that ended only with its edgepoint-box has become a child of this process, and is in no cgroup any more.
      for await (const line of lines) if (line.startsWith('pid ')) expectOrphan(Number(line.slice(4)));
      rmSync(socketPath, { force: true });
      await clearFolder(own, expectOrphan).catch((error: unknown) => warn('a session could not be cleared away', { session: name, reason: messageOf(error) }));
      running.delete(name);
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), beginMs);
    try {
      if ((await lines.next()).value !== 'found') throw new Failure('session-failed', (await said).trim() || 'it did not begin in time');
      // Held now: its number cannot become another's any more.
      if (!isSame()) throw new Failure('no-such-instance', 'the instance has ended');
      void child.stdin.write(words.map((word) => `${word}\0`).join(''));
      void child.stdin.end();
      if ((await lines.next()).value !== 'listening') throw new Failure('session-failed', (await said).trim() || 'it did not begin in time');
      return { socketPath };
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  return {
    begin,
    async clear(cgroup) {
      for (const folder of sessionFolders(cgroup)) await clearFolder(folder, expectOrphan);
    },
  };
}

/** Kills all that is in it, and removes it. What its edgepoint-box has not waited for has become a child of this process. */
async function clearFolder(folder: string, expectOrphan: (pid: number) => void): Promise<void> {
  const deadlineMs = performance.now() + endMs;
  for (;;) {
    for (const pid of processesIn(folder)) {
      try {
        expectOrphan(pid);
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if (codeOf(error) !== 'ESRCH') throw error; // it had ended already
      }
    }
    try {
      rmdirSync(folder);
      return;
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return; // with its instance
      if (performance.now() > deadlineMs) throw error;
      await sleep(2);
    }
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let held = '';
  const reader = stream.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    held += decoder.decode(next.value, { stream: true });
    const lines = held.split('\n');
    held = lines.pop() ?? '';
    yield* lines;
  }
}
