import { once } from 'node:events';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { findOffering, type Offering } from '../../edgepoint/model/offering.ts';
import { tools } from '../../host/tools.ts';

/** One row of the matrix: a server program that listens on port 8080. */
export interface Application {
  readonly name: string;
  readonly files: Readonly<Record<string, string | Uint8Array>>;
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly offering: Offering;
  /** Makes it count one further in whatever memory it has and returns the count. Fails when anything it holds is not as it should be. */
  count(connect: () => Promise<Socket>): Promise<number>;
}

export const programsFolder = fileURLToPath(new URL('../programs', import.meta.url));

export function programText(name: string): string {
  return readFileSync(join(programsFolder, name), 'utf8');
}

export function offeringNamed(name: string): Offering {
  const offering = findOffering(name);
  if (offering === undefined) throw new Error(`no offering ${name}`);
  return offering;
}

/** The root with the runtimes; the set-up makes it for tests only. */
export function runtimesRoot(): string {
  if (!existsSync(tools.runtimesRoot)) throw new Error('no root with runtimes: sh images/host/bootstrap.sh images/host/main.ts --for-tests');
  return tools.runtimesRoot;
}

/** The body of the answer to a GET. */
export async function get(connect: () => Promise<Socket>, path = '/'): Promise<string> {
  const socket = await connect();
  let text = '';
  socket.on('data', (part: Buffer) => (text += part.toString())).on('error', () => undefined);
  socket.write(`GET ${path} HTTP/1.0\r\nhost: matrix\r\n\r\n`);
  await once(socket, 'close', { signal: AbortSignal.timeout(20_000) });
  const body = text.indexOf('\r\n\r\n');
  if (!/^HTTP\/1\.[01] 200 /.test(text) || body < 0) throw new Error(`no answer to GET ${path}: ${JSON.stringify(text.slice(0, 200))}`);
  return text.slice(body + 4).trim();
}

/** Proportional set size of all processes of an instance: what it really adds to the machine (proc(5), smaps_rollup). */
export function memoryBytes(instance: RunningInstance): number {
  const processes = readFileSync(join(instance.cgroup.cpu, 'cgroup.procs'), 'utf8').trim().split('\n');
  const namespaceOf = (pid: number | string): string => readlinkSync(`/proc/${pid}/ns/pid`);
  const own = namespaceOf(instance.pid);
  const kilobytes = processes.map((pid) => {
    try {
      if (namespaceOf(pid) !== own) return 0; // what CRIU leaves in the cgroup for a moment
      return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0);
    } catch {
      return 0; // it ended meanwhile
    }
  });
  return kilobytes.reduce((sum, each) => sum + each, 0) * 1024;
}
