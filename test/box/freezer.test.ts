import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { type InstanceCgroup, isFrozen, setFrozen } from '../../edgepoint/box/cgroup.ts';

/** Both versions of the real freezer, where this machine has them: version 2 also without controllers, mounted beside version 1. */
const hierarchies = [
  { version: 1, root: '/sys/fs/cgroup/freezer', there: existsSync('/sys/fs/cgroup/freezer/cgroup.procs') },
  { version: 2, root: '/sys/fs/cgroup/unified', there: existsSync('/sys/fs/cgroup/unified/cgroup.procs') },
  { version: 2, root: '/sys/fs/cgroup', there: existsSync('/sys/fs/cgroup/cgroup.controllers') },
] as const;

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const endMs = Date.now() + 5000; !holds(); ) {
    if (Date.now() > endMs) throw new Error(`waited for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** A process that uses the processor all the time, alone in a cgroup. */
function busyProcess(t: Test, version: 1 | 2, root: string): { cgroup: InstanceCgroup; child: ChildProcess } {
  const folder = join(root, `edgepoint-test-freezer-${process.pid}`);
  mkdirSync(folder);
  const child = spawn('sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' });
  const cgroup: InstanceCgroup = { version, cpu: folder, cpuLimit: folder, memory: folder, pids: folder, freezer: folder, io: folder };
  t.teardown(async () => {
    if (isFrozen(cgroup, true)) setFrozen(cgroup, false);
    child.kill('SIGKILL');
    await until('it has ended', () => readFileSync(join(folder, 'cgroup.procs'), 'utf8') === '');
    rmdirSync(folder);
  });
  writeFileSync(join(folder, 'cgroup.procs'), `${child.pid}`);
  return { cgroup, child };
}

const usedTicks = (child: ChildProcess): number => Number(readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[11]);

for (const { version, root, there } of hierarchies) {
  t.test(`version ${version} at ${root}`, { skip: there ? false : 'not on this machine' }, async (t) => {
    const { cgroup, child } = busyProcess(t, version, root);
    t.notOk(isFrozen(cgroup, true), 'it runs');
    setFrozen(cgroup, true);
    t.ok(isFrozen(cgroup, true), 'it was asked to stop');
    await until('it stands still', () => isFrozen(cgroup));
    const before = usedTicks(child);
    await new Promise((resolve) => setTimeout(resolve, 100));
    t.equal(usedTicks(child), before, 'it uses no processor time');
    setFrozen(cgroup, true);
    t.ok(isFrozen(cgroup), 'a second time changes nothing');
    setFrozen(cgroup, false);
    t.notOk(isFrozen(cgroup, true));
    await until('it runs on', () => usedTicks(child) > before);
    setFrozen(cgroup, true);
    await until('it stands still again', () => isFrozen(cgroup));
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    if (isFrozen(cgroup, true)) setFrozen(cgroup, false);
    await gone;
    t.equal(child.signalCode, 'SIGKILL', 'it can be killed');
    await t.rejects(async () => setFrozen({ ...cgroup, freezer: `${root}/edgepoint-test-nothing` }, true), 'there is no such cgroup');
    t.notOk(isFrozen({ ...cgroup, freezer: `${root}/edgepoint-test-nothing` }, true));
  });
}
