import t from 'tap';
import type { FreezeTaken } from '../../edgepoint/model/calls.ts';
import { chance, moment, rounds } from './chance.ts';
import { openEngine } from './engine.ts';

t.setTimeout(rounds(180_000, 900_000));

const fill = `
  state.digest = () => { const hash = require('crypto').createHash('sha256'); for (const one of state.text) hash.update(one); return hash.digest('hex'); };
  state.text = Array.from({ length: 100_000 }, (_, at) => ('entry ' + at + ' of the register, ').repeat(45) + at);
  return state.digest();`;

t.test('one that is frozen right after its restore, also while its memory still comes, goes on with every byte of it', async (t) => {
  const random = chance(t);
  const engine = await openEngine(t);
  const order = engine.order('big');
  const first = await engine.boot(order);
  const digest = await engine.run(first, fill);
  const path = engine.snapshotPath('big');
  await engine.snapshot('big', path, false);
  for (let round = 0; round < rounds(5, 50); round += 1) {
    const name = `clone-${round}`;
    const clone = await engine.restore({ ...order, instance: name, snapshotPath: path, continues: false });
    const waitMs = random() * 150;
    await moment(waitMs);
    const frozeMs = performance.now();
    const taken = (await engine.restored.call('freeze', { instance: name })) as FreezeTaken;
    const tookMs = performance.now() - frozeMs;
    await moment(random() * 100);
    await engine.restored.call('thaw', { instance: name });
    t.equal(await engine.run(clone, 'return state.digest()'), digest, `round ${round}: frozen ${waitMs.toFixed(0)} ms after its restore, in ${tookMs.toFixed(0)} ms, ${(taken.givenBackBytes / 1e6).toFixed(0)} of ${(taken.memoryBytes / 1e6).toFixed(0)} MB given back; steps ${JSON.stringify(clone.stepsMs)}`);
    await engine.restored.call('freeze', { instance: name });
    await engine.stop(name);
  }
  await engine.nothingRemains(t, 'nothing is left');
});
