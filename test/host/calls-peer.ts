/** A process of its own for calls.test.ts: listens (or connects) on the socket given and answers a few methods. */
import { connectToPeer, listenForPeers } from '../../host/calls.ts';
import type { Handlers, Peer } from '../../host/calls.ts';
import { openLog } from '../../host/log.ts';
import { Failure } from '../../kit/errors.ts';

const [way, path = '', count = '0'] = process.argv.slice(2);
const log = openLog('calls-peer');

const handlers: Handlers = {
  echo: (params) => params,
  late: async (params: unknown) => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    return params;
  },
  never: () => new Promise(() => {}),
  refuse: () => {
    throw new Failure('no-room', 'there is no room for another', { remedy: 'Come back later.' });
  },
  /** Calls back on the connection it was called on. */
  askBack: (params: { method: string; params: unknown }, peer: Peer) => peer.call(params.method, params.params),
  pid: () => process.pid,
};

if (way === 'listen') {
  await listenForPeers(path, handlers, { log }).ready;
  process.stdout.write('ready\n');
} else if (way === 'time') {
  const peer = connectToPeer(path, {}, { log });
  const order = { instance: 'instance-0123456789abcdef', owner: { provider: 'p', scope: 'main', app: 'a' }, padding: 'x'.repeat(800) };
  for (let call = 0; call < 2000; call += 1) await peer.call('echo', order);
  const micros: number[] = [];
  for (let call = 0; call < Number(count); call += 1) {
    const fromMs = performance.now();
    await peer.call('echo', order);
    micros.push((performance.now() - fromMs) * 1000);
  }
  micros.sort((one, other) => one - other);
  const fromMs = performance.now();
  await Promise.all(Array.from({ length: 2000 }, () => peer.call('echo', order)));
  const perSecond = 2000 / ((performance.now() - fromMs) / 1000);
  process.stdout.write(`${JSON.stringify({ p50Micros: micros[micros.length >> 1], p99Micros: micros[Math.floor(micros.length * 0.99)], perSecond })}\n`);
  peer.stop();
}
