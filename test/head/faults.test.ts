import t from 'tap';
import { startRig, until } from './rig.ts';

t.test('releases that cannot serve say why, each with its own code', async (t) => {
  const rig = await startRig(t);
  const rows: readonly [string, Record<string, unknown>, string, RegExp][] = [
    ['exits', { command: ['exit'] }, 'app-exited', /ended before it answered on port 8080.*Cannot find module express/s],
    ['silent', { command: ['silent'], probe: { timeoutSeconds: 0.3 } }, 'app-never-listened', /nothing answered on port 8080 within 0.3 s.*Listen on 0.0.0.0/s],
    ['broken', { command: ['status', '503'], probe: { timeoutSeconds: 0.3, path: '/up' } }, 'probe-failed', /GET \/up was answered 503/],
  ];
  for (const [app, manifest, code, text] of rows) {
    await rig.deploy(app, manifest);
    const failed = await rig.ended(app);
    t.equal(failed.stage, 'failed', app);
    t.equal(failed.code, code, app);
    t.match(failed.text, text, app);
    await until('nothing of it runs', () => rig.machine.instances.size === 0);
    const answer = await rig.dispatcher.ask(app);
    t.equal(answer.status, 503);
    t.match(answer.body, text, 'end users are told too');
  }
  await until('the state says so', () => rig.state()?.apps.filter((app) => app.status === 'failed').length === 3);
});

t.test('what cannot be snapshotted or restored is booted cold, and the provider is told', async (t) => {
  const rig = await startRig(t);
  rig.machine.failSnapshot = 'it has a io_uring open';
  await rig.deploy('ring', { scale: { idleSeconds: 0.3 } });
  t.equal((await rig.ended('ring')).stage, 'ready');
  t.match((await rig.ended('ring')).text, /cold boot: it cannot be snapshotted: it has a io_uring open/);
  t.equal((await rig.dispatcher.ask('ring')).status, 200);
  t.equal(rig.machine.count('restore'), 0);
  rig.machine.failSnapshot = '';

  rig.machine.failRestore = 'Device or resource busy';
  await rig.deploy('busy', {});
  t.match((await rig.ended('busy')).text, /cold boot: its snapshot does not restore: Device or resource busy/);
  rig.machine.failRestore = '';

  rig.machine.restoreMs = 150;
  await rig.deploy('quick', { command: ['serve', '1'] });
  t.match((await rig.ended('quick')).text, /it boots faster \(.*\) than it restores/);
  rig.machine.restoreMs = 5;
  await until('the state says so', () => rig.state()?.apps.filter((app) => app.status === 'ready').length === 3);
  for (const app of rig.state()?.apps ?? []) t.match(app, { status: 'ready', wakeBy: 'cold', templateBytes: 0 });
});

t.test('a wake that fails falls back to a cold boot while the request is held', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', { scale: { idleSeconds: 60 } });
  await rig.ended('shop');
  rig.machine.failRestore = 'pages are torn';
  const answer = await rig.dispatcher.ask('shop');
  t.equal(answer.status, 200);
  t.equal(rig.machine.count('boot i-'), 1, 'a new process answers');
  await until('the fault is told', () => rig.events.some((event) => event.kind === 'fault' && event.code === 'restore-failed'));

  rig.machine.failRestore = '';
  rig.machine.crash(answer.instance);
  await until('the route is empty at once', () => rig.dispatcher.route('shop')?.instances.length === 0);
  const after = await rig.dispatcher.ask('shop');
  t.equal(after.status, 200, 'the next request wakes another');
  t.not(after.instance, answer.instance);
  await until('the crash is told', () => rig.events.some((event) => event.kind === 'fault' && event.code === 'app-exited'));
});

t.test('an app that cannot be started at all answers 503 for a while and is tried again', async (t) => {
  const rig = await startRig(t);
  await rig.deploy('shop', {});
  await rig.ended('shop');
  rig.machine.failRestore = 'no';
  rig.machine.failBoot = 'no room for its disk';
  const refused = await rig.dispatcher.ask('shop');
  t.equal(refused.status, 503);
  t.match(refused.body, /it could not be started: no room for its disk/);
  rig.machine.failRestore = '';
  rig.machine.failBoot = '';
  await until('requests are held again', () => rig.dispatcher.route('shop')?.status === 'ready');
  t.equal((await rig.dispatcher.ask('shop')).status, 200);
});

t.test('a template that is refused is made again, once, while cold boots serve', async (t) => {
  const rig = await startRig(t);
  // It boots slowly: a machine that is busy at the trial must not make the restore look the slower way, for then the boots go on.
  await rig.deploy('shop', { command: ['serve', '600'], scale: { idleSeconds: 0.3 } });
  await rig.ended('shop');
  rig.machine.failRestore = 'its snapshot is refused: it was altered';
  rig.machine.failRestoreCode = 'snapshot-refused';
  t.equal((await rig.dispatcher.ask('shop')).status, 200, 'the request is answered');
  rig.machine.failRestore = '';
  await until('another one is taken', () => rig.machine.count('snapshot p-') === 2);
  await until('it is woken by that', () => rig.state()?.apps[0]?.wakeBy === 'template' && rig.machine.instances.size === 0);
  const before = rig.machine.count('restore i-');
  t.equal((await rig.dispatcher.ask('shop')).status, 200);
  t.equal(rig.machine.count('restore i-'), before + 1, 'restored, not booted');
  await until('it sleeps', () => rig.machine.instances.size === 0);
  rig.machine.failRestore = 'its snapshot is refused: it was altered';
  t.equal((await rig.dispatcher.ask('shop')).status, 200, 'refused again');
  await until('it is known to boot cold, and why', () => /is refused: it was altered/.test(rig.state()?.apps[0]?.wakeReason ?? ''));
  await until('it sleeps', () => rig.machine.instances.size === 0);
  t.equal(rig.machine.count('snapshot p-'), 2, 'a third so soon would be refused, too: none is made');
});
