import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { type Offering, offerings } from '../../edgepoint/model/offering.ts';
import { openEngine, until } from './engine.ts';

/* So little is free for good that a machine where much else goes on leaves it more. */
const modest: Offering = { ...(offerings[0] as Offering), name: 'modest', cpuMillis: 300 };
const generous: Offering = { ...(offerings[0] as Offering), name: 'generous', cpuMillis: 4000 };

const folderOf = ({ cgroup }: RunningInstance): string => (cgroup.version === 1 ? cgroup.cpu.replace('/cpuacct/', '/cpu/') : cgroup.cpu);
const idle = (instance: RunningInstance): string => readFileSync(join(folderOf(instance), 'cpu.idle'), 'utf8').trim();
const behind = (instance: RunningInstance): Promise<unknown> => until(`${instance.instance} is behind the others`, () => idle(instance) === '1');
const usedMs = ({ cgroup }: RunningInstance): number =>
  cgroup.version === 1 ? Number(readFileSync(join(cgroup.cpu, 'cpuacct.usage'), 'utf8')) / 1e6 : Number(/usage_usec (\d+)/.exec(readFileSync(join(cgroup.cpu, 'cpu.stat'), 'utf8'))?.[1]) / 1000;

/** Children that compute until they are told to end. */
const begin = `state.children = [1, 2].map(() => require('child_process').spawn(process.execPath, ['-e', 'for (;;);'])); return state.children.length`;
const end = `for (const child of state.children) child.kill('SIGKILL')`;

const there = existsSync('/sys/fs/cgroup/cpu') || existsSync('/sys/fs/cgroup/cgroup.controllers');

t.test('one that computes all the time lets the others go before it, booted or restored, until it has stopped', { skip: there ? false : 'no cgroups' }, async (t) => {
  const engine = await openEngine(t, { poolSize: 3 });
  const order = (name: string): ReturnType<typeof engine.order> => engine.order(name, { offering: modest });
  const quiet = await engine.boot(engine.order('quiet'));
  const booted = await engine.boot(order('booted'));
  await engine.run(quiet, 'return 1');
  t.equal(await engine.run(booted, 'return idle = "it answers"'), 'it answers');
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
    await until(`${instance.instance} is with the others again`, () => idle(instance) === '0');
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

  /** Of what both used while the quiet one computed for a third of a second of processor time. */
  async function shareOfHog(): Promise<number> {
    const before = { hog: usedMs(hog), quiet: usedMs(quiet) };
    await engine.run(quiet, `const from = process.cpuUsage(); for (;;) { const { user, system } = process.cpuUsage(from); if (user + system > 333_000) return 1; }`);
    const hogMs = usedMs(hog) - before.hog;
    return hogMs / (hogMs + usedMs(quiet) - before.quiet);
  }
  const rest = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 500)); // so that the quiet one is never without credit
  const shares = { behind: [] as number[], beside: [] as number[] };
  for (let pair = 0; pair < 3; pair += 1) {
    for (const where of ['behind', 'beside'] as const) {
      await behind(hog); // restored may have taken it back
      writeFileSync(join(folderOf(hog), 'cpu.idle'), where === 'behind' ? '1' : '0');
      shares[where].push(await shareOfHog());
      writeFileSync(join(folderOf(hog), 'cpu.idle'), '1');
      t.equal(idle(quiet), '0', 'the quiet one has credit');
      await rest();
    }
  }
  const least = (values: readonly number[]): number => Math.min(...values);
  const said = (values: readonly number[]): string => values.map((value) => value.toFixed(2)).join(', ');
  t.ok(least(shares.behind) < 0.25, `behind: ${said(shares.behind)} of the processor`);
  t.ok(least(shares.beside) > 0.3, `beside, as it would be without: ${said(shares.beside)}`);
});
