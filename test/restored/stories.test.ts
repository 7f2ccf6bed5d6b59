import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import t from 'tap';
import { type Engine, openEngine, unfinished, until } from './engine.ts';

t.test('an instance boots, answers, is snapshotted and wakes again as clones', async (t) => {
  const engine = await openEngine(t);
  const first = await engine.boot(engine.order('first'));
  t.equal(await engine.run(first, 'return ++state.count'), 1, 'it answers');
  await t.rejects(engine.boot(engine.order('nosuch', { command: ['no-such-program'] })), { code: 'cannot-start', message: /no-such-program/ });
  await engine.nothingRemains(t, 'a start that failed leaves nothing');
  const path = engine.snapshotPath('shop');
  const taken = await engine.snapshot('first', path, true);
  t.ok(taken.bytes > 1e6 && taken.frozenMs > 0 && taken.tookMs >= taken.frozenMs, 'the snapshot says its size and times');
  t.equal(await engine.run(first, 'return ++state.count'), 2, 'it ran on');
  const clones = await Promise.all([1, 2, 3, 4, 5].map((n) => engine.restore({ ...engine.order(`clone${n}`), snapshotPath: path, continues: false })));
  for (const clone of clones) t.equal(await engine.run(clone, 'return ++state.count'), 2, `${clone.instance} has the memory of the template`);
  t.equal(new Set([first, ...clones].map((instance) => instance.address)).size, 6, 'each has an address of its own');
  await engine.snapshot('first', engine.snapshotPath('asleep'), false);
  const exit = await until('the exit is told', () => engine.exits.find((news) => news.instance === 'first'));
  t.match(exit, { status: 'snapshotted', counters: { cpuNs: Number } });
  t.equal(gatewayLink(engine), '02:45:0a:4d:00:01', "the gateway's hardware address stays while links come and go: instances remember it");
  await Promise.all(clones.map((clone) => engine.stop(clone.instance)));
  t.equal(gatewayLink(engine), '02:45:0a:4d:00:01');
  t.same(await engine.list(), []);
  await engine.nothingRemains(t, 'nothing is left of any');
  t.same(unfinished(engine.folder), []);
  t.ok(existsSync(engine.snapshotPath('asleep')) && readFileSync(`${path}/snapshot.json`, 'utf8'));
});

function gatewayLink(engine: Engine): string {
  const shown = spawnSync('nsenter', ['--target', `${engine.place.pid}`, '--net', 'ip', 'link', 'show', 'instances0']).stdout.toString();
  return /link\/ether (\S+)/.exec(shown)?.[1] ?? '';
}
