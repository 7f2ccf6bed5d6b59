// Reads the kernel's own counters of a world's instances until stdin closes, and shares no code with what it checks.
// Of each slot it keeps the last value before its cgroup vanished, and whether a process of an instance was ever in it. The folder
// above the slots counts them all, those that have vanished too, to the nanosecond: from it and the slots that still wait unused
// comes `cpuNs` of the whole.
// Usage: node cgroup-reader.mjs WORLD [STEP_MS]     prints {"cpuNs", "slots": {"<edgepoint>/<slot>": {"cpuNs", "memoryByteSeconds", "used", "gone"}}}
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const [world, step = '20'] = process.argv.slice(2);
const version2 = existsSync('/sys/fs/cgroup/cgroup.controllers') && readFileSync('/sys/fs/cgroup/cgroup.controllers', 'utf8').includes('memory');
const root = version2 ? `/sys/fs/cgroup/edgepoint-${world}` : `/sys/fs/cgroup/cpuacct/edgepoint-${world}`;
const memoryRoot = version2 ? root : `/sys/fs/cgroup/memory/edgepoint-${world}`;
const slots = {};
const cpuNsOf = (folder) => {
  const text = read(join(folder, version2 ? 'cpu.stat' : 'cpuacct.usage'));
  return text === null ? null : version2 ? Number(/usage_usec (\d+)/.exec(text)?.[1] ?? 0) * 1000 : Number(text);
};

const folders = (path) => readdirSync(path, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
const read = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null; // the cgroup has vanished
  }
};

function sample() {
  const seen = new Set();
  for (const edgepoint of folders(root)) {
    if (edgepoint === 'daemons') continue;
    for (const slot of folders(join(root, edgepoint))) {
      const key = `${edgepoint}/${slot}`;
      const cpuNs = cpuNsOf(join(root, key));
      const memory = read(join(memoryRoot, key, version2 ? 'memory.current' : 'memory.usage_in_bytes'));
      if (cpuNs === null) continue;
      seen.add(key);
      const nowMs = performance.now();
      const one = (slots[key] ??= { cpuNs: 0, memoryByteSeconds: 0, used: false, gone: false, lastMs: nowMs, lastBytes: 0 });
      one.cpuNs = Math.max(one.cpuNs, cpuNs);
      one.used ||= (read(join(root, key, 'cgroup.procs')) ?? '').split('\n').some((pid) => pid !== '' && Number(/^Uid:\t(\d+)/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1] ?? 0) >= 65_536);
      if (memory !== null && one.used) one.memoryByteSeconds += ((Number(memory) + one.lastBytes) / 2) * ((nowMs - one.lastMs) / 1000);
      one.lastMs = nowMs;
      one.lastBytes = memory === null || !one.used ? 0 : Number(memory);
    }
  }
  for (const [key, one] of Object.entries(slots)) one.gone = !seen.has(key);
}

/** What instances used: all that was ever counted below an edgepoint, without the slots that wait for one. */
function instancesCpuNs() {
  const edgepoints = folders(root).filter((name) => name !== 'daemons');
  const all = edgepoints.reduce((sum, edgepoint) => sum + (cpuNsOf(join(root, edgepoint)) ?? 0), 0);
  return Object.values(slots).reduce((sum, slot) => (slot.used || slot.gone ? sum : sum - slot.cpuNs), all);
}

const timer = setInterval(sample, Number(step));
sample();
const beganCpuNs = instancesCpuNs();
process.stdout.write('reading\n');
process.stdin.resume().once('end', () => {
  clearInterval(timer);
  sample();
  process.stdout.write(`${JSON.stringify({ cpuNs: instancesCpuNs() - beganCpuNs, slots })}\n`);
});
