import t from 'tap';
import { BackgroundWork, interfaceBytes, readInterfaceBytes, workBetween } from '../../edgepoint/perf/background.ts';
import type { WorkSample } from '../../edgepoint/perf/background.ts';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';

const second = 1e9;
const at = (seconds: number, cpuMs: number, bytes: number | null = 0): WorkSample => ({ bootNs: seconds * second, cpuNs: cpuMs * 1e6, bytes });

t.test('work is what waiting does not use', (t) => {
  const table: [story: string, before: WorkSample, now: WorkSample, says: string][] = [
    ['it waits', at(1, 500), at(2, 500), ''],
    ['a timer now and then', at(1, 500), at(2, 515), ''],
    ['it computes', at(1, 500), at(2, 640), 'goes on computing'],
    ['the same, of which little was left for it', at(1, 500), at(2, 525), 'goes on computing'],
    ['a timer now and then, looked at late', at(1, 500), at(5, 560), ''],
    ['keepalives of connections that rest', at(1, 0, 7_000_000), at(2, 0, 7_002_000), ''],
    ['a download', at(1, 0, 7_000_000), at(2, 10, 7_400_000), 'goes on sending or receiving'],
    ['nobody can read its network', at(1, 0, null), at(2, 10, null), ''],
    ['read for the first time', at(1, 0, null), at(2, 10, 7_000_000), ''],
    ['a clock that stood still', at(2, 0), at(2, 900), ''],
    ['counters that began again', at(1, 900, 900_000), at(2, 0, 0), ''],
  ];
  for (const [story, before, now, says] of table) t.equal(workBetween(before, now), says, story);
  t.end();
});

t.test('bytes of all interfaces but lo', (t) => {
  const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 9000000    100    0    0    0     0          0         0  9000000    100    0    0    0     0       0          0
  eth0:    1500      3    0    0    0     0          0         0      700      2    0    0    0     0       0          0
eth1:7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0
`;
  t.equal(interfaceBytes(text), 2215);
  t.equal(interfaceBytes(''), 0);
  t.type(readInterfaceBytes(process.pid), 'number', 'the kernel’s own text');
  t.equal(readInterfaceBytes(2 ** 22 + 1), null, 'no such process');
  t.end();
});

t.test('each is looked at while it runs, and nothing is looked at when nothing does', (t) => {
  const running = (instance: string, pid: number): RunningInstance => ({ instance, pid, cgroup: { version: 1, cpu: instance, memory: '' } }) as unknown as RunningInstance;
  let tick: (() => void) | null = null;
  let nowNs = 0;
  const cpuNs: Record<string, number | null> = { a: 0, b: 0 };
  const told: string[] = [];
  const faults: unknown[] = [];
  const work = new BackgroundWork({
    bootNs: () => nowNs,
    readCounters: ({ cpu }) => {
      if (cpu === 'broken') throw new Error('unreadable');
      const known = cpuNs[cpu];
      return known === null || known === undefined ? null : { cpuNs: known, memoryBytes: 0 };
    },
    readBytes: () => null,
    every: (_, callback) => {
      tick = callback;
      return () => (tick = null);
    },
    works: (instance, what) => told.push(`${instance}: ${what}`),
    onFault: (failure) => faults.push(failure),
  });
  const look = (): string[] => {
    nowNs += second;
    tick?.();
    return told.splice(0);
  };
  t.equal(tick, null);
  work.follow(running('a', 1));
  work.follow(running('broken', 3));
  work.follow(running('b', 2));
  t.same(look(), [], 'a first look has nothing to compare with');
  cpuNs['a'] = 0.5 * second;
  t.same(look(), ['a: goes on computing', 'b: ']);
  cpuNs['b'] = null;
  t.same(look(), ['a: '], 'of one that has just ended nothing is said');
  t.equal(faults.length, 3, 'one that cannot be read is told, and does not keep the others from being looked at');
  for (const instance of ['a', 'b', 'broken', 'unknown']) work.forget(instance);
  t.equal(tick, null);
  work.follow(running('b', 2));
  t.not(tick, null);
  work.stop();
  t.equal(tick, null);
  t.end();
});
