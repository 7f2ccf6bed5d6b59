import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { mountsBelow } from '../../edgepoint/box/mount-table.ts';

const script = fileURLToPath(new URL('./place.sh', import.meta.url));
const cgroupRoot = '/sys/fs/cgroup';

/** A network and mount namespace with a /run of its own, and everything that bears the world's name on the machine. */
export interface Place {
  readonly pid: number;
  /** Starts a process in it, among the processes that go when the test ends. */
  spawn(command: readonly string[], stdio: StdioOptions): ChildProcess;
  /** A path as the place sees it. */
  path(path: string): string;
  /** The state letter of a process, empty when it is gone (proc(5)). */
  stat(pid: number): string;
  /** True when no snapshot is under way in any journal. */
  settled(runFolder: string): boolean;
  copy(from: string, to: string): void;
  /** What lies about that neither a live instance (name -> slot) nor a ready slot explains. */
  remains(runFolder: string, live: ReadonlyMap<string, string>, edgepoint: string): string[];
}

export async function openPlace(t: Test, world: string, folder: string): Promise<Place> {
  const holder = spawn('unshare', ['--net', '--mount', '--propagation', 'private', 'bash', script, world, folder], { stdio: ['pipe', 'pipe', 'inherit'] });
  const holderEnded = new Promise<void>((resolve) => holder.once('exit', () => resolve()));
  const daemonsCgroup = await new Promise<string>((resolve, reject) => {
    holder.stdout?.once('data', (text: Buffer) => resolve(text.toString().trim()));
    holder.once('exit', (status) => reject(new Error(`the place could not be made: ${status}`)));
  });
  const pid = holder.pid as number;
  const network = readlinkSync(`/proc/${pid}/ns/net`);
  t.teardown(async () => {
    holder.stdin?.end();
    await holderEnded;
    const left = leftOnMachine(world, folder, network);
    if (left.length > 0) throw new Error(`left on the machine: ${left.join('; ')}`); // tap takes no assertions here; a throw fails the test
  });
  return {
    pid,
    spawn: (command, stdio) =>
      spawn('nsenter', ['--target', `${pid}`, '--net', '--mount', '--wd=/', '--', 'sh', '-c', 'echo $$ >"$0" && exec "$@"', daemonsCgroup, ...command], { stdio }),
    path: (path) => `/proc/${pid}/root${path}`,
    stat: (process_) => /\) (\w)/.exec(readOrNothing(() => readFileSync(`/proc/${process_}/stat`, 'utf8')))?.[1] ?? '',
    settled: (runFolder) => {
      const journal = join(runFolder, 'snapshots-under-way');
      return !existsSync(journal) || readdirSync(journal).length === 0;
    },
    copy: (from, to) => {
      mkdirSync(dirname(to), { recursive: true });
      cpSync(from, to, { recursive: true, verbatimSymlinks: true });
    },
    remains: (runFolder, live, edgepoint) => remainsOf(pid, join(world, edgepoint), runFolder, live),
  };
}

function cgroupTrees(world: string): string[] {
  return ['.', ...readdirSync(cgroupRoot)].map((controller) => join(cgroupRoot, controller, `edgepoint-${world}`)).filter((path) => existsSync(path));
}

function processes(): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number);
}

function readOrNothing(read: () => string): string {
  try {
    return read();
  } catch {
    return ''; // the process ended meanwhile
  }
}

/** Seen from outside, after the end: processes, cgroups, mounts, loop devices, the folder. */
export function leftOnMachine(world: string, folder: string, network: string): string[] {
  const left: string[] = cgroupTrees(world).map((path) => `cgroup ${path}`);
  for (const pid of processes()) {
    const command = readOrNothing(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ');
    const inPlace = readOrNothing(() => readlinkSync(`/proc/${pid}/ns/net`)) === network;
    if (pid !== process.pid && (inPlace || command.includes(folder))) left.push(`process ${pid}: ${command}`);
  }
  left.push(...mountsBelow(readFileSync('/proc/self/mountinfo', 'utf8'), folder).map((point) => `mount ${point}`));
  left.push(...loopDevices(folder));
  if (existsSync(folder)) left.push(`folder ${folder}`);
  return left;
}

export function loopDevices(folder: string): string[] {
  return readdirSync('/sys/block').flatMap((name) => {
    const backing = readOrNothing(() => readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8')).trim();
    return backing.startsWith(folder) ? [`${name} over ${backing}`] : [];
  });
}

/** `tree`: world and edgepoint, as cgroups are named. */
function remainsOf(pid: number, tree_: string, runFolder: string, live: ReadonlyMap<string, string>): string[] {
  const remains: string[] = [];
  const instances = join(runFolder, 'instances');
  const expected = new Set([...live.keys()].flatMap((name) => [name, `${name}.json`]));
  for (const name of existsSync(instances) ? readdirSync(instances) : []) if (!expected.has(name)) remains.push(`file ${name}`);
  for (const point of mountsBelow(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'), instances)) {
    if (!live.has(point.slice(instances.length + 1).split('/')[0] ?? '')) remains.push(`mount ${point}`);
  }
  const slots = new Set(live.values());
  const networks = new Set(readdirSync(`/proc/${pid}/root/run/netns`));
  const cgroups = new Set<string>();
  for (const tree of cgroupTrees(tree_).filter((path) => existsSync(path))) {
    for (const name of readdirSync(tree, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))) {
      cgroups.add(name);
      if (slots.has(name)) continue;
      for (const process_ of readOrNothing(() => readFileSync(join(tree, name, 'cgroup.procs'), 'utf8')).split('\n').filter(Boolean)) {
        const command = readOrNothing(() => readFileSync(`/proc/${process_}/cmdline`, 'utf8')).split('\0');
        if (command[1] !== 'slot' && command.at(-3) !== 'swrk') remains.push(`process ${process_} in ${name}: ${command.join(' ')}`);
      }
    }
  }
  for (const name of cgroups) if (!networks.has(name)) remains.push(`cgroup ${name} without a network namespace`);
  for (const name of networks) if (!cgroups.has(name)) remains.push(`network namespace ${name} without a cgroup`);
  for (const name of slots) if (!cgroups.has(name)) remains.push(`no slot ${name} for a live instance`);
  return remains;
}
