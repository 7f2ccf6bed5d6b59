import t from 'tap';
import type { CronState } from '../../kit/wire/edgepoint-state.ts';
import { ask, asleep, openFaultWorld, until, writeApp } from './faults/fault-world.ts';

t.setTimeout(400_000); // schedules are of minutes

/** Answers a task only, and boots slowly. */
const server = `import { createServer } from 'node:http';
const bootedMs = Date.now();
while (Date.now() - bootedMs < 300);
createServer((request, response) => {
  if (request.url === '/tick') response.statusCode = request.method === 'POST' && request.headers['edgepoint-cron'] === '* * * * *' && Date.parse(request.headers['edgepoint-cron-due']) % 60000 === 0 ? 200 : 403;
  response.end();
}).listen(process.env.PORT, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
`;

t.test('an app with a schedule', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, 'ticker', { server, manifest: '[scale]\nidleSeconds = 1\n\n[[cron]]\nschedule = "* * * * *"\npath = "/tick"\n' }));
  /** By edgepoint, where it is told. */
  const tasks = async (): Promise<Record<string, CronState | undefined>> =>
    Object.fromEntries((await ada.status('ticker')).sites.flatMap(({ edgepoint, state }) => (state?.cron === undefined ? [] : [[edgepoint, state.cron[0]]])));
  let told: Record<string, CronState | undefined> = {};
  const untilTold = (what: string, holds: () => boolean, deadlineMs: number): Promise<void> =>
    until(() => `${what}: ${JSON.stringify(told)}`, async () => {
      told = await tasks();
      return holds();
    }, deadlineMs, 200);

  await untilTold('one edgepoint has its clock', () => Object.keys(told).length === 1, 10_000);
  const [first = ''] = Object.keys(told);
  await asleep(world);

  await t.test('it sleeps, is woken on the minute, and sleeps again', async (t) => {
    await untilTold('it was due', () => (told[first]?.last ?? null) !== null, 75_000);
    t.match(told[first], { schedule: '* * * * *', path: '/tick', method: 'POST', last: { ok: true, text: /^it answered 200 after/ } });
    t.equal((told[first]?.last?.dueWallMs ?? 1) % 60_000, 0);
    await asleep(world);
    const { stdout } = await ada.conduit(['status', 'ticker']);
    t.match(stdout, /cron +POST \/tick at "\* \* \* \* \*" \(UTC\): next \d{4}-\d\d-\d\d \d\d:\d\d; last \d{4}-\d\d-\d\d \d\d:\d\d, it answered 200/);
  });

  await t.test('nobody else can say that he is the clock', async (t) => {
    const host = world.edgepoints[0]?.ipv4 ?? '';
    t.match(await ask({ host, name: 'ticker.edge.test', path: '/tick', method: 'POST' }), { status: 403 });
  });

  await t.test('a head that is killed goes on where it was', async (t) => {
    const before = told[first]?.last?.dueWallMs ?? 0;
    await world.kill(`${first}-head`, 'SIGKILL');
    await world.allHealthy();
    // On a machine so busy that it takes seconds to come back, another takes its place.
    const again = (): CronState[] => Object.values(told).flatMap((task) => (task !== undefined && (task.last?.dueWallMs ?? 0) > before ? [task] : []));
    await untilTold('it was due again', () => again().length > 0, 75_000);
    t.match(again(), [{ last: { ok: true } }]);
    await untilTold('one edgepoint has its clock', () => Object.keys(told).length === 1, 20_000);
  });

  await t.test('where an edgepoint is not heard from, another takes its place', async (t) => {
    const [first = ''] = Object.keys(told);
    await world.kill(`${first}-head`, 'SIGSTOP');
    try {
      await untilTold('another has its clock', () => Object.keys(told).some((edgepoint) => edgepoint !== first), 30_000);
      const other = Object.keys(told).find((edgepoint) => edgepoint !== first) ?? '';
      await untilTold('it was due there', () => (told[other]?.last ?? null) !== null, 75_000);
      t.match(told[other], { last: { ok: true } });
    } finally {
      await world.kill(`${first}-head`, 'SIGCONT');
    }
    await untilTold('the first hears that it is not the one any more', () => told[first] === undefined && Object.keys(told).length === 1, 20_000);
  });

  t.equal((await ada.conduit(['delete', 'ticker', '--yes'])).exitCode, 0);
  await world.stop(t);
});
