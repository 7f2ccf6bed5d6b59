import t from 'tap';
import { drainAll } from '../../edgepoint/resources/go-to-sleep.ts';

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
