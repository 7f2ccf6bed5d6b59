import { chmodSync, copyFileSync, realpathSync, writeFileSync } from 'node:fs';
import { Resolver } from 'node:dns/promises';
import { join } from 'node:path';
import t from 'tap';
import { bunPath } from '../held-world.ts';
import { ask, asleep, openFaultWorld, runCommand, until, writeApp } from './fault-world.ts';
import type { FaultWorld } from './fault-world.ts';
import { agrees, atRest, measure } from './measure.ts';

/** Daemons whose wall clock is more than a year wrong, and jumps: usage, money and who is alive do not move. */

const app = 'burner';
const wrongSeconds = 40_000_000;

t.test('a wrong wall clock', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, app, { manifest: '[scale]\nidleSeconds = 1\nmax = 2\nconcurrency = 4\n' }));
  await asleep(world);
  const burner = { provider: ada, app };
  const restartWith = await prepareWrongClock(world);
  const before = await atRest(burner);
  const fromMs = performance.now();

  await t.test('each daemon takes it', async (t) => {
    await restartWith(-wrongSeconds, ['metering', 'conduit', 'global-dispatcher']);
    await restartWith(wrongSeconds, ['paris-head']);
    for (const [daemon, seconds] of [['metering', -wrongSeconds], ['paris-head', wrongSeconds]] as const) {
      const year = String(new Date(Date.now() + seconds * 1000).getUTCFullYear());
      await until(`${daemon} writes ${year} in its log`, () => (world.logOf(daemon).trimEnd().split('\n').at(-1) ?? '').includes(`"time":"${year}-`));
    }
    t.same({ ...(await atRest(burner)), storageByteSeconds: 0 }, { ...before, storageByteSeconds: 0 }, 'the ledger says what it said');
  });

  await t.test('apps are found, woken and put to sleep, and what they use is billed as it was, though the clock jumps meanwhile', async (t) => {
    const run = await measure(t, world, burner, async () => {
      const answers = world.edgepoints.map(({ ipv4 }) => ask({ host: ipv4, name: `${app}.edge.test`, path: '/burn?ms=1500' }));
      await until('the head knows that it is awake', async () => (await ada.status(app)).sites.every(({ state }) => state?.instances['warm'] === 1));
      await restartWith(-wrongSeconds, ['paris-head']);
      t.same((await Promise.all(answers)).map(({ status }) => status), [200, 200]);
    });
    agrees(t, run);
    t.equal(run.billed.requests, 2);
    const resolver = new Resolver();
    resolver.setServers([world.held.description.dnsAddresses[0] ?? '']);
    const [address] = await resolver.resolve4(`${app}.edge.test`);
    t.ok(world.edgepoints.some(({ ipv4 }) => ipv4 === address), 'the global dispatcher sends end users to an edgepoint');
    t.ok((await ada.status(app)).sites.every(({ reachable }) => reachable), 'the conduit holds both for alive');
  });

  await t.test('what lies at rest costs what it did', async (t) => {
    const { sites } = await ada.status(app);
    const templateBytes = sites.reduce((sum, { state }) => sum + (state?.templateBytes ?? 0), 0);
    await restartWith(0, ['paris-head', 'metering', 'conduit', 'global-dispatcher']);
    // An edgepoint tells of what lies at rest when it begins, and when it ends.
    t.equal((await ada.conduit(['delete', app, '--yes'])).exitCode, 0);
    await until('the storage is billed', async () => ((await ada.usage(app))?.storageByteSeconds ?? 0) > before.storageByteSeconds);
    const after = await atRest(burner);
    const most = templateBytes * ((performance.now() - fromMs) / 1000 + 60);
    t.ok(after.storageByteSeconds - before.storageByteSeconds <= most, `${after.storageByteSeconds - before.storageByteSeconds} byte-seconds of at most ${most}; the clock was wrong by ${wrongSeconds} s`);
  });

  await t.test('the world leaves nothing', (t) => world.stop(t));
});

/** Compiles the wrong clock, and returns how daemons are killed and started again with it; 0 is the right one. */
async function prepareWrongClock(world: FaultWorld): Promise<(seconds: number, daemons: readonly string[]) => Promise<void>> {
  const library = join(world.folder, 'wrong-clock.so');
  const bun = join(world.folder, 'bun');
  await must(['gcc', '-O2', '-Wall', '-shared', '-fPIC', '-o', library, join(import.meta.dirname, 'wrong-clock.c')]);
  copyFileSync(realpathSync(bunPath), bun);
  chmodSync(world.folder, 0o755);
  // The daemons' own copy of the clone is a mount, so what is laid on it is seen by this world alone.
  const program = join(world.held.description.runFolder, 'repository', realpathSync(bunPath).slice(join(import.meta.dirname, '../../..').length));
  return async (seconds, daemons) => {
    const wrapper = join(world.folder, `bun-${seconds}`);
    writeFileSync(wrapper, `#!/bin/sh\nLD_PRELOAD=${library} WRONG_CLOCK_SECONDS=${seconds} exec ${bun} "$@"\n`, { mode: 0o755 });
    for (const daemon of daemons) {
      const pid = (await world.daemons())[daemon];
      const inItsMounts = ['nsenter', `--mount=/proc/${pid}/ns/mnt`, '--'];
      await must([...inItsMounts, 'mount', '--bind', wrapper, program]);
      await world.kill(daemon, 'SIGKILL');
      await until(`${daemon} runs again`, async () => ![undefined, pid].includes((await world.daemons())[daemon]));
      await world.allHealthy();
      await must(['nsenter', `--mount=/proc/${(await world.daemons())[daemon]}/ns/mnt`, '--', 'umount', program]);
    }
  };
}

async function must(argv: readonly string[]): Promise<void> {
  const ran = await runCommand(argv);
  if (ran.exitCode !== 0) throw new Error(`${argv.join(' ')}: ${ran.stderr}`);
}
