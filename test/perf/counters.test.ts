import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { readCounters } from '../../edgepoint/perf/counters.ts';
import { openClock } from '../../host/clock.ts';
import type { UsageRecord } from '../../kit/wire/usage.ts';

const name = `edgepoint-test-${process.pid}-${Date.now().toString(36)}`;

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
}

/** A busy loop with pauses, holding 256 MB, so much that the garbage of the loops is far below 1 % of it; ends when told. */
const burner = `
  const held = Buffer.alloc(256 * 1024 * 1024, 1);
  process.stdin.once('data', () => process.exit(0));
  const burn = () => { const until = performance.now() + 30; while (performance.now() < until) held[0] += 1; setTimeout(burn, 10); };
  console.log('burning'); burn();
`;

t.test('a real cgroup with a real burner: the final record is the kernel\'s own figure, within 1 % of an independent reader', { skip: existsSync('/sys/fs/cgroup/cpuacct') ? false : 'this machine has no cgroup v1 controllers' }, async (t) => {
  const cpu = `/sys/fs/cgroup/cpuacct/${name}`;
  const memory = `/sys/fs/cgroup/memory/${name}`;
  const children: ChildProcess[] = [];
  try {
    mkdirSync(cpu);
    mkdirSync(memory);
    // The shell joins the cgroups, then becomes the burner: every page and nanosecond of it is counted.
    const burning = spawn('sh', ['-c', `echo $$ > ${cpu}/cgroup.procs && echo $$ > ${memory}/cgroup.procs && exec "$0" -e "$1"`, process.execPath, burner], { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(burning);
    await new Promise((resolve) => burning.stdout.once('data', resolve));
    const sampler = spawn(join(process.cwd(), 'node_modules/.bin/bun'), ['test/perf/cgroup-sampler.ts', '1', cpu, memory], { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(sampler);
    let said = '';
    sampler.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until('the sampler has begun', () => said.includes('metering'));

    // The independent reader: its own files (cpuacct.stat in ticks, cgroup's RSS from memory.stat), its own clock, its own sum.
    const clock = openClock();
    let area = 0;
    let first: { atNs: number; bytes: number } | undefined;
    let before: { atNs: number; bytes: number } | undefined;
    const samples = 40;
    for (let sample = 0; sample < samples; sample += 1) {
      const fields = new Map(readFileSync(join(memory, 'memory.stat'), 'latin1').split('\n').map((line) => line.split(' ') as [string, string]));
      const usage = Number(readFileSync(join(memory, 'memory.usage_in_bytes'), 'latin1')) - Number(fields.get('total_inactive_file'));
      const now = { atNs: clock.bootNs(), bytes: usage };
      first ??= now;
      if (before) area += ((before.bytes + now.bytes) / 2) * ((now.atNs - before.atNs) / 1e9);
      before = now;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const untilNs = before?.atNs ?? 0;
    const seconds = (untilNs - (first?.atNs ?? 0)) / 1e9;
    burning.stdin.end('stop\n');
    await ended(burning);
    sampler.stdin.write('end\n');
    await ended(sampler);
    const independentNs = Number(readFileSync(join(cpu, 'cpuacct.usage'), 'latin1'));
    const perCpuNs = readFileSync(join(cpu, 'cpuacct.usage_percpu'), 'latin1').trim().split(' ').reduce((sum, ns) => sum + Number(ns), 0);

    const records = JSON.parse(said.split('\n').find((line) => line.startsWith('[')) ?? '[]') as UsageRecord[];
    const final = records.at(-1);
    t.ok(records.length >= 4, `a record at the start, at intervals and at the end: ${records.length}`);
    t.match(final, { final: true });
    const cpuNs = final?.totals.cpuNs ?? 0;
    t.ok(cpuNs > 1e8, `it burned ${cpuNs / 1e9} CPU seconds`);
    t.ok(Math.abs(cpuNs / independentNs - 1) < 0.01, `cpu: ${cpuNs} metered, ${independentNs} in cpuacct.usage`);
    t.ok(Math.abs(cpuNs / perCpuNs - 1) < 0.01, `cpu: ${cpuNs} metered, ${perCpuNs} over the CPUs`);
    // The two memory figures cover nearly but not quite the same seconds, so their means are compared, of the time it burned.
    const last = records.findLast(({ toBootNs }) => toBootNs <= untilNs);
    const meteredMean = (last?.totals.memoryByteSeconds ?? 0) / (((last?.toBootNs ?? 0) - (last?.fromBootNs ?? 0)) / 1e9);
    const independentMean = area / seconds;
    t.ok(Math.abs(meteredMean / independentMean - 1) < 0.01, `memory: a mean of ${meteredMean} metered, ${independentMean} read beside it`);
  } finally {
    for (const child of children) {
      child.kill('SIGKILL');
      await ended(child);
    }
    for (const folder of [cpu, memory]) if (existsSync(folder)) rmdirSync(folder);
  }
});

t.test('both versions of the kernel\'s files are understood, and a cgroup that is gone is null', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-test-counters-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const paths = (version: 1 | 2) => ({ version, cpu: folder, memory: folder, pids: folder, freezer: folder });
  writeFileSync(join(folder, 'cpuacct.usage'), '1234567890\n');
  writeFileSync(join(folder, 'memory.usage_in_bytes'), '5000\n');
  writeFileSync(join(folder, 'memory.stat'), 'inactive_file 700\nrss 1\ntotal_inactive_file 2000\n');
  t.same(readCounters(paths(1)), { cpuNs: 1_234_567_890, memoryBytes: 3000 });
  writeFileSync(join(folder, 'cpu.stat'), 'usage_usec 55\nuser_usec 50\nsystem_usec 5\n');
  writeFileSync(join(folder, 'memory.current'), '5000\n');
  t.same(readCounters(paths(2)), { cpuNs: 55_000, memoryBytes: 4300 });
  writeFileSync(join(folder, 'memory.current'), '500\n');
  t.equal(readCounters(paths(2))?.memoryBytes, 0, 'never below zero, for the two files are read one after the other');
  rmSync(join(folder, 'cpu.stat'));
  t.equal(readCounters(paths(2)), null);
});
