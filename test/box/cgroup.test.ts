import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { cgroupFolders, cgroupOf, cgroupProcesses, cgroupVersion, limitCgroup, makeCgroup, prepareCgroupParents, readCounters, removeCgroup } from '../../edgepoint/box/cgroup.ts';

t.test('names: a folder for each controller, or one for all', async (t) => {
  t.equal(cgroupOf(1, 'w', 'e', 'i').cpu, '/sys/fs/cgroup/cpuacct/edgepoint-w/e/i');
  t.equal(cgroupOf(1, 'w', 'e', 'i').cpuLimit, '/sys/fs/cgroup/cpu/edgepoint-w/e/i');
  t.equal(new Set(cgroupFolders(cgroupOf(1, 'w', 'e', 'i'))).size, existsSync('/sys/fs/cgroup/blkio') ? 6 : 5);
  t.same(cgroupFolders(cgroupOf(2, 'w', 'e', 'i')), ['/sys/fs/cgroup/edgepoint-w/e/i']);
});

t.test('a real cgroup: limits, processes, counters, removal', async (t) => {
  const cgroup = cgroupOf(cgroupVersion(), `t${process.pid}`, 'e', 'i');
  t.teardown(() => {
    removeCgroup(cgroup);
    const parents = new Set(cgroupFolders(cgroup).map((folder) => dirname(folder)));
    for (const folder of [...parents, ...[...parents].map((parent) => dirname(parent))]) if (existsSync(folder)) rmdirSync(folder);
  });
  prepareCgroupParents(cgroup);
  prepareCgroupParents(cgroup);
  makeCgroup(cgroup);
  limitCgroup(cgroup, { name: 'x', cpuMillis: 250, memoryBytes: 64 * 2 ** 20, diskBytes: 1, pidsMax: 17, networkBytesPerSecond: 1, diskOperationsPerSecond: 1 });
  const read = (folder: string, file: string): string => readFileSync(join(folder, file), 'utf8').trim();
  if (cgroup.version === 2) {
    t.equal(read(cgroup.cpu, 'cpu.max'), '25000 100000');
    t.equal(read(cgroup.memory, 'memory.max'), `${64 * 2 ** 20}`);
  } else {
    t.equal(read(cgroup.cpuLimit, 'cpu.cfs_quota_us'), '25000');
    t.equal(read(cgroup.memory, 'memory.limit_in_bytes'), `${64 * 2 ** 20}`);
    if (existsSync(join(cgroup.memory, 'memory.memsw.limit_in_bytes'))) t.equal(read(cgroup.memory, 'memory.memsw.limit_in_bytes'), `${64 * 2 ** 20}`, 'no more by swapping');
  }
  t.equal(read(cgroup.pids, 'pids.max'), '17');
  t.same(cgroupProcesses(cgroup), []);

  const busy = spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' });
  t.teardown(() => busy.kill('SIGKILL'));
  const over = new Promise<void>((resolve) => busy.once('exit', () => resolve()));
  for (const folder of cgroupFolders(cgroup)) writeFileSync(join(folder, 'cgroup.procs'), `${busy.pid}`);
  t.same(cgroupProcesses(cgroup), [busy.pid]);
  const deadline = Date.now() + 10_000;
  while (readCounters(cgroup).cpuNs < 20e6 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
  t.ok(readCounters(cgroup).cpuNs >= 20e6, 'its processor time is counted');
  t.notOk(removeCgroup(cgroup), 'a busy cgroup stays');
  busy.kill('SIGKILL');
  await over;
  while (!removeCgroup(cgroup) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
  t.notOk(cgroupFolders(cgroup).some((folder) => existsSync(folder)), 'all its folders are gone');
  t.ok(removeCgroup(cgroup), 'and may be removed again');
  t.same(cgroupProcesses(cgroup), []);
  t.same(readCounters(cgroup), { cpuNs: 0, memoryBytes: 0 });
});
