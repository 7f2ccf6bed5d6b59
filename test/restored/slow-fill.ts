import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupVersion } from '../../edgepoint/box/cgroup.ts';
import { fillPath } from '../../edgepoint/box/folders.ts';
import { type Engine, until } from './engine.ts';

const quotaUs = 1000; // the least that the kernel takes

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly command: readonly string[];
}

function allProcesses(): Process[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      return [{ pid: Number(name), parent, command: readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0') }];
    } catch {
      return []; // it ended meanwhile
    }
  });
}

/** The guards that wait in the ready slots of the engine: edgepoint-box whose parent is edgepoint-box. */
function waitingGuards(engine: Engine): number[] {
  const boxes = allProcesses().filter(({ command }) => command[1] === 'slot' && command.some((word) => word.includes(`${engine.world}-e-`)));
  /* The first child of each: the next is CRIU, which looks the same until it is executed. */
  return boxes.flatMap((box) => boxes.filter(({ parent }) => parent === box.pid).map(({ pid }) => pid).toSorted((a, b) => a - b).slice(0, 1));
}

/**
 * Gives the pages servers of all ready slots one part in `slowness` (at most 1000) of a processor, so that a test can do something while memory
 * is on its way. Only what is started from the slots that are ready now is slow; returns how to make it fast again.
 */
export async function slowFills(engine: Engine, slots: number, slowness: number): Promise<() => void> {
  const version = cgroupVersion();
  const tree = join('/sys/fs/cgroup', version === 1 ? 'cpu' : '.', `edgepoint-${engine.world}`, 'slow');
  mkdirSync(tree, { recursive: true });
  const periodUs = quotaUs * slowness;
  if (version === 1) {
    writeFileSync(join(tree, 'cpu.cfs_period_us'), `${periodUs}`);
    writeFileSync(join(tree, 'cpu.cfs_quota_us'), `${quotaUs}`);
  } else writeFileSync(join(tree, 'cpu.max'), `${quotaUs} ${periodUs}`);
  const guards = await until(`${slots} slots are ready`, () => {
    const found = waitingGuards(engine);
    return found.length >= slots ? found : null;
  });
  for (const pid of guards) writeFileSync(join(tree, 'cgroup.procs'), `${pid}`);
  return () => (version === 1 ? writeFileSync(join(tree, 'cpu.cfs_quota_us'), '-1') : writeFileSync(join(tree, 'cpu.max'), 'max'));
}

/** Stops a slow process and lets it have the processor again, so that a signal that follows finds it before it has done anything more. */
export function stopSlowOne(pid: number): void {
  process.kill(pid, 'SIGSTOP');
  writeFileSync(join('/sys/fs/cgroup', cgroupVersion() === 1 ? 'cpu' : '.', 'cgroup.procs'), `${pid}`);
}

/**
 * Stops the pages server of an instance that has just been restored, so that its fill is under way until `goOn` is called. A slow server alone
 * is no promise of that: the restores of others may take so long that it has filled all meanwhile.
 */
export function holdFill(engine: Engine, instance: string): { guard: number; server: number; goOn: () => void } {
  const found = holders(engine, instance);
  const path = fillPath(engine.runFolder, instance);
  if (found === null) throw new Error(`nobody fills ${instance}: ${existsSync(path) ? readFileSync(path, 'utf8') : 'no file'} ${JSON.stringify(allProcesses().filter(({ pid }) => descriptorsOf(pid).includes(path)))}`);
  process.kill(found.server, 'SIGSTOP');
  return { ...found, goOn: () => process.kill(found.server, 'SIGCONT') };
}

/** What a process holds open. It may end meanwhile, or close one of them. */
function descriptorsOf(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).flatMap((fd) => targetOf(`${folder}/${fd}`));
  } catch {
    return [];
  }
}

function targetOf(link: string): string[] {
  try {
    return [readlinkSync(link)];
  } catch {
    return [];
  }
}

/** Guard and pages server of an instance, by the fill file they hold open, or its pager's by the held file; null when its memory is there. */
export function holders(engine: Engine, instance: string, path = fillPath(engine.runFolder, instance)): { guard: number; server: number } | null {
  const found = allProcesses().filter(({ pid }) => descriptorsOf(pid).includes(path));
  const isParent = ({ pid }: Process): boolean => found.some(({ parent }) => parent === pid);
  /* The guard's own parent, which has opened the file, may live a moment longer than the restore. */
  const server = found.find((one) => !isParent(one) && found.some(({ pid }) => pid === one.parent));
  return server === undefined ? null : { guard: server.parent, server: server.pid };
}

export function isFilling(engine: Engine, instance: string): boolean {
  return existsSync(fillPath(engine.runFolder, instance));
}
