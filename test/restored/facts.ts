import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { basename } from 'node:path';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';

export const namespaces = ['pid', 'pid_for_children', 'mnt', 'net', 'ipc', 'uts', 'user', 'cgroup', 'time', 'time_for_children'] as const;

export function namespacesOf(pid: number | 'self'): Record<string, string> {
  return Object.fromEntries(namespaces.map((name) => [name, readlinkSync(`/proc/${pid}/ns/${name}`)]));
}

/** Without the signals that a program handles: those are its own, and the clone guard's until a template is taken. */
const statusFields = /^(Umask|State_of|Uid|Gid|Groups|NoNewPrivs|Seccomp|Seccomp_filters|Cap\w+|SigBlk|SigIgn|Speculation\w+|Cpus_allowed|Mems_allowed|CoreDumping|THP_enabled|Kthread):/;

/** Everything about the first process of an instance that its isolation is made of, as the machine sees it, without names of this instance. */
export function isolationOf(instance: RunningInstance, runFolder: string): Record<string, unknown> {
  const { pid } = instance;
  const slot = basename(instance.cgroup.cpu);
  const read = (file: string): string => readFileSync(`/proc/${pid}/${file}`, 'utf8');
  const plain = (text: string): string => text.replaceAll(`${runFolder}/instances/${instance.instance}/`, 'INSTANCE/').replaceAll(slot, 'SLOT');
  return {
    status: read('status').split('\n').filter((line) => statusFields.test(line)),
    uidMap: read('uid_map'),
    gidMap: read('gid_map'),
    setgroups: read('setgroups'),
    mounts: mountsOf(pid).map(plain),
    limits: read('limits'),
    oomScoreAdj: read('oom_score_adj'),
    timerSlackNs: read('timerslack_ns'),
    personality: read('personality'),
    coredumpFilter: read('coredump_filter'),
    loginUid: read('loginuid'),
    workingFolder: readlinkSync(`/proc/${pid}/cwd`),
    root: readlinkSync(`/proc/${pid}/root`),
    program: readlinkSync(`/proc/${pid}/exe`),
    environment: read('environ').split('\0'),
    arguments: read('cmdline').split('\0'),
    session: sessionOf(read('stat')),
    scheduling: schedulingOf(pid),
    owner: statSync(`/proc/${pid}/environ`).uid,
    cgroups: plain(read('cgroup')).split('\n').filter((line) => line.includes('SLOT')),
    limitsOfCgroup: limitsOf(instance),
    descriptors: descriptorsOf(pid),
  };
}

/** From Linux 6.12 on one may ask for a time slice; before, it is the kernel's own business. */
export const knowsSlices = ((version) => (version[0] ?? 0) * 100 + (version[1] ?? 0) >= 612)(release().split('.').map(Number));

/** Policy, priority and time slice of its threads, each kind once (/proc/PID/sched). */
function schedulingOf(pid: number): string[] {
  const fields = readdirSync(`/proc/${pid}/task`).map((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/sched`, 'utf8')
      .split('\n')
      .filter((line) => (knowsSlices ? /^(policy|prio|se\.slice) / : /^(policy|prio) /).test(line))
      .map((line) => line.replaceAll(/\s+/g, ''))
      .join(' '),
  );
  return [...new Set(fields)];
}

/** Mount point, root, options, propagation, kind and the file system's options; not numbers and not the layers below an overlay. */
function mountsOf(pid: number): string[] {
  return readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [head = '', tail = ''] = line.split(' - ');
      const [, , , root, point, options, ...propagation] = head.split(' ');
      /* An overlay over a copied disk says no uuid=on: it names the file system in statfs(2), nothing else. */
      const layers = tail.replace(/lowerdir=[^,]*/, 'lowerdir=LAYERS').replace(',uuid=on', '');
      return `${point} of ${root} ${options} [${propagation.map((word) => word.replace(/\d+/, 'N')).join(' ')}] ${layers}`;
    })
    .toSorted();
}

/** Group and session as field 5 and 6 of its stat, relative to its own id. */
function sessionOf(stat: string): string {
  const pid = stat.slice(0, stat.indexOf(' '));
  const [, , group, session, terminal] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return `group ${group === pid ? 'own' : 'other'}, session ${session === pid ? 'own' : 'other'}, terminal ${terminal}`;
}

function limitsOf(instance: RunningInstance): Record<string, string> {
  const { cgroup } = instance;
  const cpuLimit = cgroup.version === 1 ? cgroup.cpu.replace('/cpuacct/', '/cpu/') : cgroup.cpu;
  const files = cgroup.version === 1
    ? [`${cpuLimit}/cpu.cfs_quota_us`, `${cpuLimit}/cpu.idle`, `${cpuLimit}/cpu.cfs_period_us`, `${cgroup.memory}/memory.limit_in_bytes`, `${cgroup.pids}/pids.max`]
    : [`${cpuLimit}/cpu.max`, `${cpuLimit}/cpu.idle`, `${cgroup.memory}/memory.max`, `${cgroup.pids}/pids.max`];
  return Object.fromEntries(files.map((file) => [basename(file), readFileSync(file, 'utf8').trim()]));
}

/** What its open descriptors point at, each kind once, because connections come and go; a file of a mount it does not see says so. */
function descriptorsOf(pid: number): string[] {
  const mounts = new Set(readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n').map((line) => line.split(' ')[0]));
  const targets = readdirSync(`/proc/${pid}/fd`)
    .map((fd) => {
      const target = readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/\[\d+\]/, '[N]');
      const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
      const mount = /^mnt_id:\t(\d+)/m.exec(info)?.[1] ?? '';
      const flags = /^flags:\t(\d+)/m.exec(info)?.[1] ?? '';
      return `${target} flags ${flags}${target.startsWith('/') && !mounts.has(mount) ? ' OUTSIDE' : ''}`;
    });
  return [...new Set(targets)].toSorted();
}
