import t from 'tap';
import { ask, asleep, openFaultWorld, writeApp } from './fault-world.ts';
import { agrees, measure } from './measure.ts';

/** What is billed is what the kernel counted, read by another script; also of what happened while the bus was away, once. */

const app = 'burner';

t.test('usage and the kernel’s counters', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, app, { manifest: '[scale]\nidleSeconds = 0.3\nmax = 2\nconcurrency = 4\n' }));
  const addresses = world.edgepoints.map(({ ipv4 }) => ipv4);

  await t.test('the usage of a run agrees within 1 % with the kernel’s counters', async (t) => {
    const run = await measure(t, world, { provider: ada, app }, async () => {
      for (let round = 0; round < 3; round += 1) {
        const answers = await Promise.all(addresses.flatMap((host) => [1, 2].map(() => ask({ host, name: `${app}.edge.test`, path: '/burn?ms=900' }))));
        t.same(answers.map(({ status }) => status), [200, 200, 200, 200], 'every request is answered');
        await asleep(world);
      }
    });
    agrees(t, run);
    t.equal(run.billed.requests, 12);
    t.ok(run.billed.wakes >= 6, `${run.billed.wakes} wakes`);
  });

  await t.test('it is woken while the bus is away, and what it used is billed once when the bus is back', async (t) => {
    const run = await measure(t, world, { provider: ada, app }, async () => {
      await world.kill('nats-server', 'SIGSTOP');
      try {
        for (let round = 0; round < 3; round += 1) {
          const answers = await Promise.all(addresses.map((host) => ask({ host, name: `${app}.edge.test`, path: '/burn?ms=900' })));
          t.same(answers.map(({ status }) => status), [200, 200], 'it is woken and answers without the bus');
          await asleep(world);
        }
      } finally {
        await world.kill('nats-server', 'SIGCONT');
      }
    });
    agrees(t, run);
    t.equal(run.billed.requests, 6);
    t.equal(run.billed.wakes, 6);
  });

  await t.test('the world leaves nothing', (t) => world.stop(t));
});
