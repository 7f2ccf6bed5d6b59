import { existsSync, readFileSync } from 'node:fs';
import t from 'tap';
import { makeArtefact } from '../restored/app.ts';
import { openEngine, until } from '../restored/engine.ts';
import { compiled } from './applications.ts';

/* Timers go on running while the program that set them stands still to be dumped. */
for (const keepRunning of [false, true]) {
  const ways = keepRunning ? 'stands still for a snapshot and runs on' : 'sleeps';
  t.test(`each one-shot timer comes once, although some go off while the program ${ways}`, async (t) => {
    const engine = await openEngine(t);
    const artefactPath = makeArtefact(engine.folder, 'alarms', { alarms: compiled('alarms.c') });
    const order = engine.order('alarms', { artefactPath, command: ['/app/alarms'], ownNetwork: true });
    let instance = await engine.boot(order);
    const { address } = instance;
    const said = (): string => {
      const log = engine.place.path(instance.logPath);
      return existsSync(log) ? readFileSync(log, 'utf8') : '';
    };
    let inTime = 0;
    let naps = 0;
    // On a busy machine a snapshot takes longer than most rounds: it goes on until one was quick enough to have something in it.
    for (naps = 1; naps <= 6 || (inTime === 0 && naps <= 30); naps += 1) {
      const nap = naps;
      const round = Number((await until('a round is set', () => /round (\d+) is set\n$/.exec(said())))[1]);
      const snapshotPath = engine.snapshotPath(`nap${nap}`);
      await engine.snapshot('alarms', snapshotPath, keepRunning);
      inTime += said().includes(`round ${round}:`) ? 0 : 1;
      if (!keepRunning) instance = await engine.restore({ ...order, address, snapshotPath, continues: true });
      const [, missing, doubled] = await until('the round ends', () => new RegExp(`round ${round}: (\\d+) missing, (\\d+) doubled`).exec(said()));
      t.same({ missing, doubled }, { missing: '0', doubled: '0' }, `nap ${nap}`);
      if (keepRunning) await engine.snapd.call('discard', { snapshotPath });
    }
    t.ok(inTime > 0, `${inTime} of ${naps - 1} snapshots were made before the last timer was due`);
  });
}
