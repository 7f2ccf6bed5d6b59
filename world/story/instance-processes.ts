import { readdirSync, readFileSync } from 'node:fs';

/** Instances see uid 0 to 65535 as their slot's range, so every process of any instance has a uid from here on. */
const firstInstanceUid = 65_536;

/** Uids of the machine's own services may lie that high (nobody of a container runtime): only those under a world's cgroup count. */
export function instanceProcesses(worldId: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => uidOf(pid) >= firstInstanceUid && inWorld(pid, worldId));
}

function uidOf(pid: number): number {
  return Number(/^Uid:\t(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0);
}

function inWorld(pid: number, worldId: string): boolean {
  return read(`/proc/${pid}/cgroup`).includes(`/edgepoint-${worldId}/`);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // the process has ended
  }
}
