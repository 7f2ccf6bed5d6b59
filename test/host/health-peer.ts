/** A process of its own for health.test.ts: serves health on each address given and prints what they are. */
import { openClock } from '../../host/clock.ts';
import { serveHealth } from '../../host/health.ts';
import { openMetrics } from '../../host/metrics.ts';

const metrics = openMetrics('tester');
metrics.counter('wakes_total', 'Wakes.', ['app']).inc({ app: 'shop' }, 2);
metrics.counter('wakes_total', 'Wakes.', ['app']).inc({ app: 'shop' });
metrics.gauge('load_ratio', 'Load.').set({}, 0.5);
metrics.histogram('wake_ms', 'Wake.', ['app'], [10, 100]).observe({ app: 'shop' }, 20);
let ok = true;
const served = process.argv.slice(2).map((listen) => serveHealth({ listen, metrics, check: () => ({ ok, detail: { why: ok ? '' : 'draining' } }) }));
process.on('SIGUSR2', () => void (ok = false));
process.once('SIGTERM', () => served.forEach((server) => server.stop()));
await new Promise((resolve) => setTimeout(resolve, 50));
const clock = openClock();
process.stdout.write(`${JSON.stringify({ addresses: served.map(({ address }) => address), bootId: clock.bootId, bootNs: clock.bootNs() })}\n`);
