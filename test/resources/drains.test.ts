import t from 'tap';
import { unparkWarm } from '../../edgepoint/resources/freeze-and-thaw.ts';
import { drainAll, sleepInstance } from '../../edgepoint/resources/go-to-sleep.ts';
import type { InstanceEntry } from '../../edgepoint/resources/state.ts';

const second = 1e9;

/** Each row: what the dispatcher says at each time it is asked of one instance, how long that takes, and how often it is asked. */
const table = [
  { name: 'nothing is under way', answers: [true], tookS: 0, asked: 1 },
  { name: 'it was about to sleep, whose drain broke this one off', answers: [false, true], tookS: 0, asked: 2 },
  { name: 'it has gone to sleep meanwhile', answers: [false], goneAfter: 1, tookS: 0, asked: 1 },
  { name: 'the dispatcher is away', answers: [false, false, false], tookS: 0, asked: 3 },
  { name: 'what is under way does not end', answers: [false], tookS: 30, asked: 1 },
];

for (const { name, answers, goneAfter, tookS, asked } of table) {
  t.test(name, async (t) => {
    let nowNs = 5 * second;
    const instances = new Map([['i-1', {}]]);
    const orders: { instance: string; park: boolean; timeoutMs: number }[] = [];
    const drain = async (order: { instance: string; park: boolean; timeoutMs: number }): Promise<boolean> => {
      orders.push(order);
      nowNs += tookS * second;
      if (orders.length === goneAfter) instances.clear();
      return answers[orders.length - 1] ?? t.fail('it is asked once more');
    };
    await drainAll({ ports: { clock: { bootNs: () => nowNs }, dispatcher: { drain } } } as unknown as Parameters<typeof drainAll>[0], { instances } as unknown as Parameters<typeof drainAll>[1]);
    t.strictSame(orders, Array.from({ length: asked }, () => ({ instance: 'i-1', park: false, timeoutMs: 30_000 })));
  });
}

t.test('an instance ends for good when nothing is under way in it, also when another drain of it was broken off', async (t) => {
  const story: string[] = [];
  const entry = { facts: { id: 'i-1', mode: 'draining', release: 1 }, frozen: null } as unknown as InstanceEntry;
  const manager = {
    ports: {
      clock: { bootNs: () => 0 },
      dispatcher: {
        drain: async () => {
          story.push('drain');
          return story.length > 1;
        },
      },
      tell: () => undefined,
    },
    keeper: { goneSignal: () => ({ aborted: false }), end: async () => void story.push('end') },
    touch: () => undefined,
    touchRefused: () => undefined,
  };
  const app = { instances: new Map([['i-1', entry]]), serving: null };
  type Sleeps = Parameters<typeof sleepInstance>;
  await sleepInstance(manager as unknown as Sleeps[0], app as unknown as Sleeps[1], entry, { kind: 'end', app: 'p.main.a', instance: 'i-1', reason: 'release 2 has replaced release 1' });
  t.same(story, ['drain', 'drain', 'end']);
  t.equal(entry.facts.mode, 'asleep');
});

t.test('what was parked is given back to one that stayed warm, and not to one that the next plan lets go', async (t) => {
  const unparked: string[] = [];
  const manager = { ports: { dispatcher: { unpark: async (instance: string) => void unparked.push(instance) } } } as unknown as Parameters<typeof unparkWarm>[0];
  for (const mode of ['warm', 'draining', 'failed']) await unparkWarm(manager, { facts: { id: mode, mode } } as unknown as InstanceEntry);
  t.same(unparked, ['warm']);
});
