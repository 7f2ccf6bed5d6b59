import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { arch, release } from 'node:os';
import { basename, join } from 'node:path';

/** What this machine and this edgepoint are, as a snapshot's fingerprint names it. */
export interface Machine {
  readonly architecture: string;
  readonly cpuinfo: string;
  readonly kernel: string;
  readonly criu: string;
  readonly box: string;
}

/** Nothing of this changes while a daemon runs. */
export function readMachine(programs: { criu: string; boxProgram: string }): Machine {
  const asked = Bun.spawnSync([programs.criu, '--version'], { stdin: 'ignore', stdout: 'pipe', stderr: 'ignore' });
  return {
    architecture: arch(),
    cpuinfo: readFileSync('/proc/cpuinfo', 'utf8'),
    kernel: release(),
    criu: /Version: (\S+)/.exec(asked.stdout.toString())?.[1] ?? 'unknown',
    box: basename(programs.boxProgram),
  };
}

/** Names the content of a base root: its packages, and the programs that came beside them. */
export interface BaseRootName {
  /** Now: the set-up replaces the root as a whole, also while instances run. */
  read(): string;
}

export function openBaseRootName(baseRoot: string): BaseRootName {
  let seen = '';
  let name = '';
  return {
    read(): string {
      const { dev, ino, ctimeNs } = statSync(baseRoot, { bigint: true });
      const root = `${dev}:${ino}:${ctimeNs}`;
      if (root !== seen) name = nameOf(baseRoot);
      seen = root;
      return name;
    },
  };
}

function nameOf(baseRoot: string): string {
  const hash = createHash('sha256');
  for (const path of ['var/lib/dpkg/status', 'etc/debian_version']) hash.update(readOrNothing(join(baseRoot, path))).update('\0');
  const beside = join(baseRoot, 'usr/local/bin');
  for (const program of namesIn(beside)) {
    const { size, mtimeMs } = statSync(join(beside, program));
    hash.update(`${program} ${size} ${mtimeMs}\0`);
  }
  return hash.digest('hex');
}

/** A root of another make has no such file; then its absence is part of the name. */
function readOrNothing(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).toSorted();
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return [];
    throw error;
  }
}
