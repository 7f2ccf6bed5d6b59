import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { type Offering, offerings } from '../../edgepoint/model/offering.ts';
import { openEngine, until } from './engine.ts';
import { knowsSlices } from './facts.ts';

/* So little is free for good that a machine where much else goes on leaves it more. */
const modest: Offering = { ...(offerings[0] as Offering), name: 'modest', cpuMillis: 300 };
const generous: Offering = { ...(offerings[0] as Offering), name: 'generous', cpuMillis: 4000 };

/** A busy machine leaves little of itself to use up. */
const patienceMs = 60_000;

const folderOf = ({ cgroup }: RunningInstance): string => (cgroup.version === 1 ? cgroup.cpu.replace('/cpuacct/', '/cpu/') : cgroup.cpu);
const idle = (instance: RunningInstance): string => readFileSync(join(folderOf(instance), 'cpu.idle'), 'utf8').trim();
const behind = (instance: RunningInstance): Promise<unknown> => until(`${instance.instance} is behind the others`, () => idle(instance) === '1', patienceMs);
const usedMs = ({ cgroup }: RunningInstance): number =>
  cgroup.version === 1 ? Number(readFileSync(join(cgroup.cpu, 'cpuacct.usage'), 'utf8')) / 1e6 : Number(/usage_usec (\d+)/.exec(readFileSync(join(cgroup.cpu, 'cpu.stat'), 'utf8'))?.[1]) / 1000;

/** Children that compute until they are told to end. */
const begin = `state.children = [1, 2].map(() => require('child_process').spawn(process.execPath, ['-e', 'for (;;);'])); return state.children.length`;
const end = `for (const child of state.children) child.kill('SIGKILL')`;

/** Of its main thread, in nanoseconds. */
const sliceOf = (pid: number | undefined): number => Number(/^se\.slice\s*:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/sched`, 'utf8'))?.[1]);

const median = (values: readonly number[]): number => values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? Number.NaN;

const there = existsSync('/sys/fs/cgroup/cpu') || existsSync('/sys/fs/cgroup/cgroup.controllers');

t.test('one that computes all the time lets the others go before it, booted or restored, until it has stopped', { skip: there ? false : 'no cgroups' }, async (t) => {
  const engine = await openEngine(t, { poolSize: 3 });
  const order = (name: string): ReturnType<typeof engine.order> => engine.order(name, { offering: modest });
  if (knowsSlices) for (const name of ['restored', 'snapd'] as const) t.equal(sliceOf(engine.daemon(name).pid), 100_000, `${name} does not wait behind instances`);
  const quiet = await engine.boot(engine.order('quiet'));
  const booted = await engine.boot(order('booted'));
  await engine.run(quiet, 'return 1');
  t.equal(await engine.run(booted, 'return "it answers"'), 'it answers');
  t.equal(idle(booted), '0', 'it begins with the others');
  await engine.run(booted, begin);
  await behind(booted);
  t.equal(idle(quiet), '0', 'a neighbour that is quiet stays where it is');
  const path = engine.snapshotPath('busy');
  await engine.snapshot('booted', path);
  const restored = await engine.restore({ ...order('restored'), snapshotPath: path, continues: false });
  t.equal(idle(restored), '0', 'what is restored of it begins with the others');
  await behind(restored);

  await engine.killDaemon('restored');
  await engine.startDaemon('restored');
  t.equal((await engine.list()).length, 3);
  await behind(booted);
  await behind(restored);
  for (const instance of [booted, restored]) {
    await engine.run(instance, end);
    await until(`${instance.instance} is with the others again`, () => idle(instance) === '0', patienceMs);
  }
});

t.test('who is behind gets next to nothing of a processor that another uses', { skip: there ? false : 'no cgroups' }, async (t) => {
  const engine = await openEngine(t);
  const quiet = await engine.boot(engine.order('quiet', { offering: generous }));
  const hog = await engine.boot(engine.order('hog', { offering: modest }));
  await engine.run(quiet, 'return 1');
  await engine.run(hog, begin);
  await behind(hog);
  /* It may take all it gets, and both have the same processor alone: what else runs there takes as much of both. */
  if (hog.cgroup.version === 1) writeFileSync(join(folderOf(hog), 'cpu.cfs_quota_us'), '-1');
  else writeFileSync(join(folderOf(hog), 'cpu.max'), 'max 100000');
  for (const instance of [quiet, hog]) {
    for (const pid of readFileSync(join(instance.cgroup.cpu, 'cgroup.procs'), 'utf8').trim().split('\n')) execFileSync('taskset', ['-a', '-c', '-p', '0', pid], { stdio: 'ignore' });
  }

  /* From here on nobody but this test changes who is behind; instances live on without restored. */
  await engine.killDaemon('restored');

  /** Of what both used while the quiet one computed, seen in its midst: the hog's part. */
  async function shareOfHog(): Promise<number> {
    const computeMs = 500;
    const from = usedMs(quiet);
    const looks: { hog: number; quiet: number }[] = [];
    const watching = setInterval(() => looks.push({ hog: usedMs(hog), quiet: usedMs(quiet) - from }), 5);
    await engine.run(quiet, `const from = process.cpuUsage(); for (;;) { const { user, system } = process.cpuUsage(from); if (user + system > ${computeMs * 1000}) return 1; }`);
    clearInterval(watching);
    const midst = looks.filter((look) => look.quiet > computeMs * 0.2 && look.quiet < computeMs * 0.9);
    const [first, last] = [midst[0], midst.at(-1)];
    if (first === undefined || last === undefined || last.quiet - first.quiet < computeMs * 0.3) return shareOfHog(); // this process was kept waiting
    return (last.hog - first.hog) / (last.hog - first.hog + last.quiet - first.quiet);
  }
  const shares = { behind: [] as number[], beside: [] as number[] };
  for (let pair = 0; pair < 3; pair += 1) {
    for (const where of ['behind', 'beside'] as const) {
      writeFileSync(join(folderOf(hog), 'cpu.idle'), where === 'behind' ? '1' : '0');
      shares[where].push(await shareOfHog());
    }
  }
  await engine.startDaemon('restored');
  const said = (values: readonly number[]): string => values.map((value) => value.toFixed(2)).join(', ');
  t.ok(median(shares.behind) < 0.2, `behind: ${said(shares.behind)} of the processor`);
  t.ok(median(shares.beside) > 0.35, `beside, as it would be without: ${said(shares.beside)}`);
});
