import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import type { CapsAnswer } from '../../conduit/api/answers.ts';
import { monthEndWallMs, monthOf } from '../../kit/wire/spending.ts';
import { ask, asleep, openFaultWorld, until, writeApp } from './faults/fault-world.ts';
import { startProber } from './faults/prober.ts';

t.setTimeout(400_000);

const app = 'shop';
const name = `${app}.edge.test`;
/** Boots slowly; GET /slow takes its time without computing. */
const server = `import { createServer } from 'node:http';
const bootedMs = Date.now();
while (Date.now() - bootedMs < 300);
createServer((request, response) => setTimeout(() => response.end('here'), request.url === '/slow' ? 700 : 0)).listen(process.env.PORT, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
`;
const lanes = [
  { name, connection: 'kept', method: 'GET', pauseMs: 2 },
  { name, connection: 'kept', method: 'POST', pauseMs: 2 },
  { name, connection: 'fresh', method: 'GET', pauseMs: 5 },
] as const;
const capMicros = 500;

t.test('an app reaches its spending cap in the middle of requests, while metering and the conduit are killed, and the cap is raised', async (t) => {
  if (monthEndWallMs(monthOf(Date.now())) - Date.now() < 600_000) return t.comment('the month turns too soon');
  process.env['CONDUIT_WEBHOOKS_ANYWHERE'] = 'true';
  const world = await openFaultWorld(t);
  const came: { id: string; percent: number }[] = [];
  const hook = createServer((request, response) => {
    let body = '';
    request.on('data', (bytes: Buffer) => (body += bytes.toString()));
    request.on('end', () => {
      came.push({ id: String(request.headers['webhook-id']), percent: (JSON.parse(body) as { data: { percent: number } }).data.percent });
      response.writeHead(204).end();
    });
  });
  await new Promise<void>((resolve) => hook.listen(0, '127.0.0.1', () => resolve()));
  t.teardown(() => {
    hook.closeAllConnections();
    hook.close();
  });
  const ada = await world.newProvider('ada');
  const address = world.edgepoints[0]?.ipv4 ?? '';
  const caps = (): Promise<CapsAnswer> => ada.json<CapsAnswer>(['cap']);
  const spent = async (): Promise<number> => (await caps()).apps.find((one) => one.app === app)?.micros ?? 0;
  await ada.json(['cap', 'webhook', `http://127.0.0.1:${(hook.address() as AddressInfo).port}/`]);
  await ada.deploy(writeApp(world.folder, app, { server, manifest: '[scale]\nidleSeconds = 30\nmax = 2\nconcurrency = 4\n' }));
  // What its preparation cost is paid already.
  const cap = capMicros + (await spent());
  await ada.json(['cap', 'set', `0.00${`${cap}`.padStart(4, '0')}`, '--app', app]);

  const prober = startProber(address, 'caps', lanes);
  const long: { status: number; error: string }[] = [];
  let ends = false;
  const longOnes = (async () => {
    while (!ends) {
      const answer = await ask({ host: address, name, path: '/slow' });
      long.push(answer);
      if (answer.status !== 200) await new Promise((resolve) => setTimeout(resolve, 50));
    }
  })();
  const answered = (status: number): number => prober.probes.filter((probe) => probe.endedMs > 0 && probe.status === status).length;
  let raisedMs = Infinity;
  try {
    await until('it is served', () => answered(200) > 100, 60_000);
    await world.kill('metering', 'SIGKILL');
    await until('the conduit has told the first alert', () => came.length > 0, 120_000);
    await world.kill('conduit', 'SIGKILL');
    await until('it is stopped', () => answered(503) > 100, 120_000);
    await until('the long ones are told too', () => long.at(-1)?.status === 503, 60_000);
    await t.test('its instances sleep, though it is asked all the time', () => asleep(world));
    await until(() => `all alerts came: ${JSON.stringify(came)}`, () => new Set(came.map(({ percent }) => percent)).size === 3, 120_000);
    t.strictSame([...new Map(came.map(({ id, percent }) => [id, percent])).values()].toSorted((a, b) => a - b), [50, 80, 100], 'one alert of each, by its id');
    t.match(await ask({ host: address, name, path: '/' }), { status: 503, body: /code: spending-cap-reached/ });
    const served = prober.probes.filter(({ status }) => status === 200).length + long.filter(({ status }) => status === 200).length;
    await until('all that was answered is in the ledger', async () => ((await ada.usage(app))?.requests ?? 0) >= served, 60_000);
    // All has been told when the ledger has the last records of its instances.
    let last = -1;
    await until('what it cost stands still', async () => {
      const before = last;
      last = await spent();
      return before === last && last >= cap;
    }, 60_000, 7000);
    t.match(await caps(), { apps: [{ app, stopped: /^its spending cap for \d{4}-\d\d is reached$/ }] });
    t.comment(`spent ${last} micros; its cap was ${cap}`);
    const refused = answered(503);
    await until('and stays so while it is asked', () => answered(503) > refused + 100);
    t.equal(await spent(), last, 'requests that are refused cost nothing');

    raisedMs = performance.now();
    await ada.json(['cap', 'set', '1000', '--app', app]);
    const commandMs = performance.now() - raisedMs;
    const servedAgain = () => prober.probes.find((probe) => probe.status === 200 && probe.startedMs > raisedMs);
    await until('it is served again', () => servedAgain() !== undefined, 60_000);
    t.comment(`served again ${((servedAgain()?.endedMs ?? 0) - raisedMs).toFixed(0)} ms after the command began, which took ${commandMs.toFixed(0)} ms`);
    const servedMs = servedAgain()?.endedMs ?? 0;
    await until('and stays so', () => prober.probes.filter((probe) => probe.status === 200 && probe.startedMs > servedMs).length > 100);
    t.equal(prober.probes.filter((probe) => probe.endedMs > 0 && probe.startedMs > servedMs && probe.status !== 200).length, 0, 'none is refused any more');
  } finally {
    ends = true;
    await Promise.all([prober.stop(), longOnes]);
  }
  const lost = [...prober.probes, ...long].filter(({ status }) => status !== 200 && status !== 503);
  t.same(lost.map(({ status, error }) => `${status} ${error}`), [], `none of ${prober.probes.length} requests and ${long.length} long ones was cut`);
  t.ok(long.some(({ status }) => status === 200), 'long ones were answered');
  t.equal((await ada.conduit(['delete', app, '--yes'])).exitCode, 0);
  await asleep(world);
  await world.stop(t);
});
