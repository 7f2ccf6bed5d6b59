/** A process of its own for bus.test.ts: speaks on the bus as an edgepoint does, on Bun, and prints what it saw. */
import { connectBus } from '../../host/bus.ts';
import { openLog } from '../../host/log.ts';

const [url = '', seed = ''] = process.argv.slice(2);
const bus = await connectBus({ url, seed, name: 'bus-peer' }, openLog('bus-peer'));
const say = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
const watch = await bus.watchKv('desired', 'north.one.>', (key, text) => say({ key, text }));
await watch.ready;
const object = await bus.getObject('artefacts_north_one', 'digest');
const hash = new Bun.CryptoHasher('sha256');
hash.update(new Uint8Array(await new Response(object).arrayBuffer()));
say({ digest: hash.digest('hex') });
await bus.putKv('state', 'north.one', 'from bun');
await bus.append('usage.north.one.p.main.a', 'record', 'i/1');
say({ runtime: process.versions.bun, up: bus.up });
bus.onUp(() => say({ up: true }));
process.once('SIGTERM', () => void bus.close().then(() => process.exit(0)));
