import t from 'tap';
import { holdWorld, runWorld } from './held-world.ts';
import { tracesOf } from './traces.ts';

t.test('what SIGKILL of the supervisor leaves is removed by clean, and a world beside it stays as it is', async (t) => {
  const [killed, beside] = await Promise.all([holdWorld(), holdWorld()]);
  t.teardown(() => Promise.all([killed.stop(), beside.stop()]));
  const { id } = killed.description;
  t.not(id, beside.description.id);
  const before = tracesOf(beside.description.id).toSorted();

  const ended = new Promise((resolve) => killed.process.once('exit', resolve));
  killed.process.kill('SIGKILL');
  await ended;
  t.ok(tracesOf(id).some((trace) => trace.startsWith('process ')), 'its daemons run on without it');

  const left = await runWorld(['left']);
  t.notMatch(left.stdout, new RegExp(`^${beside.description.id} `, 'm'), 'a living world is not called left');

  const cleaned = await runWorld(['clean']);
  t.equal(cleaned.exitCode, 0, cleaned.stderr);
  // Worlds of other tests start meanwhile, and each start cleans as well: it may have come first.
  t.match(cleaned.stdout, /^World [0-9a-z]{4}: removed|^Nothing was left/);
  t.same(tracesOf(id), []);
  t.same(tracesOf(beside.description.id).toSorted(), before, 'the other world lost nothing');
  t.ok((await fetch(beside.description.conduitUrl)).status < 500, 'and works');
  t.equal(await beside.stop(), 0);
  t.same(tracesOf(beside.description.id), []);
});

t.test('the next start removes it too', async (t) => {
  const killed = await holdWorld();
  t.teardown(() => killed.stop());
  const ended = new Promise((resolve) => killed.process.once('exit', resolve));
  killed.process.kill('SIGKILL');
  await ended;
  const next = await holdWorld();
  t.teardown(() => next.stop());
  t.same(tracesOf(killed.description.id), []);
});
