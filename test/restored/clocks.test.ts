import t from 'tap';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { openEngine } from './engine.ts';

interface Reading {
  readonly wallMs: number;
  readonly monotonicNs: string;
  readonly hostname: string;
  readonly addresses: readonly string[];
  readonly machine: string;
}

const read = `
  const os = require('os'), fs = require('fs');
  const addresses = Object.values(os.networkInterfaces()).flat().filter((one) => !one.internal && one.family === 'IPv4').map((one) => one.address);
  let machine = ''; try { machine = fs.readFileSync('/etc/machine-id', 'utf8').trim(); } catch {}
  return { wallMs: Date.now(), monotonicNs: String(process.hrtime.bigint()), hostname: os.hostname(), addresses, machine };
`;

t.test('after every wake the wall clock is right at once, the monotonic one never went back, and names and addresses agree', async (t) => {
  const engine = await openEngine(t);
  const reading = async (instance: RunningInstance): Promise<Reading> => {
    const fromMs = Date.now();
    const found = (await engine.run(instance, read)) as Reading;
    t.ok(found.wallMs >= fromMs - 5 && found.wallMs <= Date.now() + 5, 'the wall clock is the machine\'s');
    t.same(found.addresses, [instance.address], 'it sees the address it has');
    return found;
  };
  for (const continues of [false, true]) {
    const order = engine.order(continues ? 'kept' : 'template', { ownNetwork: continues });
    const { command: _, env: __, ...box } = order;
    let before = await reading(await engine.boot(order));
    const first = before;
    let snapshotPath = engine.snapshotPath(`${order.instance}-0`);
    await engine.snapshot(order.instance, snapshotPath, false);
    for (let wake = 1; wake <= 3; wake += 1) {
      await new Promise((resolve) => setTimeout(resolve, 300)); // asleep
      const instance = continues ? order.instance : `clone-${wake}`;
      const running = await engine.restore({ ...box, instance, address: continues ? (before.addresses[0] ?? null) : null, snapshotPath, continues });
      const now = await reading(running);
      t.ok(BigInt(now.monotonicNs) > BigInt(before.monotonicNs) || !continues, 'what continues never sees its clock go back');
      t.ok(BigInt(now.monotonicNs) > BigInt(first.monotonicNs), 'a clone never sees a time before its template\'s');
      t.same({ hostname: now.hostname, machine: now.machine }, { hostname: first.hostname, machine: first.machine }, 'and is the same host');
      before = now;
      if (continues) {
        snapshotPath = engine.snapshotPath(`${order.instance}-${wake}`);
        await engine.snapshot(instance, snapshotPath, false);
      } else await engine.stop(instance);
    }
  }
});
