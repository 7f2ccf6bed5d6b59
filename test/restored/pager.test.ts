import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import t from 'tap';
import { isFrozen, setFrozen } from '../../edgepoint/box/cgroup.ts';
import { heldPath, pagerPath } from '../../edgepoint/box/folders.ts';
import type { FreezeTaken, RunningInstance } from '../../edgepoint/model/calls.ts';
import { type Offering, offerings } from '../../edgepoint/model/offering.ts';
import { tools } from '../../host/tools.ts';
import { makeArtefact, patientProgram, rememberProgram } from './app.ts';
import { chance, moment, rounds } from './chance.ts';
import { type Engine, openEngine, until } from './engine.ts';
import { holders } from './slow-fill.ts';

t.setTimeout(rounds(300_000, 3_000_000));

const mebibyte = 2 ** 20;
const offering: Offering = { ...(offerings[0] as Offering), name: 'test', cpuMillis: 2000, memoryBytes: 1024 * mebibyte, diskBytes: 16 * mebibyte, pidsMax: 64 };
const megabytes = 96;
const turmoil = ['drop', 'move', 'fork', 'write', 'holes', 'replace', 'protect'];
const skip = readFileSync('/proc/sys/vm/unprivileged_userfaultfd', 'utf8').trim() === '1' ? false : 'this machine lets no process have its page faults answered';

const freeze = (engine: Engine, instance: string): Promise<FreezeTaken> => engine.restored.call('freeze', { instance }) as Promise<FreezeTaken>;
const thaw = (engine: Engine, instance: string): Promise<unknown> => engine.restored.call('thaw', { instance });
const pagerOf = (engine: Engine, instance: string): { guard: number; server: number } | null => holders(engine, instance, heldPath(engine.runFolder, instance));

/** An engine with a program that knows every page of its memory. */
async function tell(t: Parameters<typeof openEngine>[0]): Promise<{ engine: Engine; boot: (name: string, program?: string) => Promise<RunningInstance> }> {
  const engine = await openEngine(t, { poolSize: 4 });
  const artefactPath = makeArtefact(engine.folder, 'programs', { remember: rememberProgram(engine.folder), patient: patientProgram(engine.folder) });
  return { engine, boot: (name, program = 'remember') => engine.boot(engine.order(name, { artefactPath, offering, command: [`/app/${program}`, `${megabytes}`] })) };
}

async function say(engine: Engine, instance: { readonly address: string }, words: readonly string[], isOver?: () => boolean): Promise<string[]> {
  const socket = await engine.connect(instance, isOver);
  let text = '';
  socket.setEncoding('utf8').on('data', (part: string) => (text += part));
  socket.on('error', () => undefined);
  socket.write(`${words.join(' ')}\n`);
  await Promise.race([once(socket, 'end'), once(socket, 'close')]);
  socket.destroy();
  return text.trim().split('\n');
}

const right = (words: readonly string[]): string[] => words.map((word) => `${word} 0`);

t.test('frozen and thawed again and again, an instance remembers every page, whatever it does with its memory', { skip }, async (t) => {
  const { engine, boot } = await tell(t);
  const one = await boot('one');
  t.same(await say(engine, one, ['check']), ['check 0']);
  t.match(engine.pagersHold, [{ heldBytes: 0, heldBytesMax: Number }], 'who connects hears that pagers hold nothing');
  for (const words of [...turmoil.map((word) => [word]), ['check'], turmoil, turmoil.toReversed(), ['fork', 'fork', 'check']]) {
    const { memoryBytes, givenBackBytes } = await freeze(engine, 'one');
    t.ok(memoryBytes - givenBackBytes < 4e6, `${givenBackBytes} of ${memoryBytes} bytes are not its own any more`);
    t.ok(pagerOf(engine, 'one'), 'a pager holds it');
    t.ok((engine.pagersHold.at(-1)?.heldBytes ?? 0) > 1e6, 'and that is told');
    await thaw(engine, 'one');
    t.same(await say(engine, one, words), right(words), `${words.join(' ')}: right, with the rest still missing`);
  }
  t.same(await say(engine, one, ['check', 'fork']), right(['check', 'fork']));
  await until('a pager of which nothing is wanted ends', () => !existsSync(heldPath(engine.runFolder, 'one')));
  await freeze(engine, 'one');
  await engine.stop('one');
  await engine.nothingRemains(t, 'nothing is left');
  t.equal(engine.pagersHold.at(-1)?.heldBytes, 0, 'and nothing is held');
  t.same(engine.exits, []);
});

t.test('a machine that was suspended: who gives memory is stopped and goes on', { skip }, async (t) => {
  const { engine, boot } = await tell(t);
  const one = await boot('one');
  t.same(await say(engine, one, ['check']), ['check 0']);
  await freeze(engine, 'one');
  const { guard, server } = pagerOf(engine, 'one') ?? { guard: 0, server: 0 };
  const is = (state: string) => (): boolean => engine.place.stat(guard) === state && engine.place.stat(server) === state;
  await until('both wait for an event', is('S'));
  for (const pid of [guard, server]) process.kill(pid, 'SIGSTOP');
  await until('both stand still', is('T'));
  for (const pid of [guard, server]) process.kill(pid, 'SIGCONT');
  await until('both wait again', is('S'));
  await thaw(engine, 'one');
  t.same(await say(engine, one, ['check']), ['check 0'], 'it remembers every page');
  t.same(engine.exits, []);
  await engine.stop('one');
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('one that works on its memory after a thaw gets all of it back unasked, and one that answers does not', { skip }, async (t) => {
  const { engine, boot } = await tell(t);
  const one = await boot('one');
  t.same(await say(engine, one, ['check']), ['check 0']);
  await freeze(engine, 'one');
  await thaw(engine, 'one');
  t.same(await say(engine, one, ['eighth']), ['eighth 0']);
  await moment(1500);
  t.ok(pagerOf(engine, 'one'), 'after 12 of 96 MB the rest stays where it is');
  await until('after 24 of them within a moment all is given', async () => {
    await freeze(engine, 'one');
    await thaw(engine, 'one');
    t.same(await say(engine, one, ['quarter']), ['quarter 0']);
    await moment(1000);
    return !existsSync(heldPath(engine.runFolder, 'one'));
  });
  t.same(await say(engine, one, ['check']), ['check 0']);
  t.same(engine.exits, []);
});

t.test('who is stopped in the middle of a system call goes on in it', { skip }, async (t) => {
  const { engine, boot } = await tell(t);
  const patient = await boot('patient', 'patient');
  const ask = async (): Promise<number[]> => (await say(engine, patient, ['poke']))[0]?.split(' ').map(Number) ?? [];
  let [waits = 0] = await ask();
  for (let round = 0; round < rounds(12, 200); round += 1) {
    await freeze(engine, 'patient');
    t.ok(pagerOf(engine, 'patient'));
    await moment((round % 4) * 40);
    await thaw(engine, 'patient');
    const [now = 0, odd, bad] = await ask();
    t.same([odd, bad], [0, 0], `round ${round}: no call did what it should not, and memory is whole`);
    const before = waits;
    await until('all wait on', async () => (([waits = 0] = await ask()), waits > before + 8));
    t.ok(now >= before);
  }
});

t.test('a thaw in the middle of a freeze: what was taken by then is given back', { skip }, async (t) => {
  const random = chance(t);
  const { engine, boot } = await tell(t);
  const one = await boot('one');
  await say(engine, one, ['check']);
  for (let round = 0; round < rounds(12, 200); round += 1) {
    const waitMs = random() * 500;
    const froze = freeze(engine, 'one');
    await moment(waitMs);
    const fromMs = performance.now();
    await thaw(engine, 'one');
    const tookMs = performance.now() - fromMs;
    await froze;
    const words = round % 3 === 0 ? ['write'] : ['check'];
    t.same(await say(engine, one, words), right(words), `round ${round}: thawed in ${tookMs.toFixed(1)} ms, ${waitMs.toFixed(0)} ms into a freeze`);
  }
  t.same(await say(engine, one, ['check', 'fork']), right(['check', 'fork']));
  t.same((await engine.list()).filter((instance) => instance.frozen), []);
});

t.test('one that was frozen sleeps with all its memory, also while it runs on', { skip }, async (t) => {
  const { engine, boot } = await tell(t);
  const one = await boot('one');
  await say(engine, one, ['check', 'write']);
  const path = engine.snapshotPath('kept');
  await freeze(engine, 'one');
  await thaw(engine, 'one');
  t.ok(pagerOf(engine, 'one'), 'its memory is elsewhere when the snapshot is ordered');
  await engine.snapshot('one', path, true);
  t.same(await say(engine, one, ['check']), ['check 0'], 'it runs on');
  await freeze(engine, 'one');
  await thaw(engine, 'one');
  const asleep = engine.snapshotPath('asleep');
  await engine.snapshot('one', asleep, false);
  const artefactPath = `${engine.folder}/artefacts/programs`;
  for (const [name, from] of [['kept', path], ['asleep', asleep]] as const) {
    const clone = await engine.restore({ ...engine.order(name, { artefactPath, offering }), snapshotPath: from, continues: false });
    t.same(await say(engine, clone, ['check', ...turmoil, 'check']), right(['check', ...turmoil, 'check']), `${name}: whole`);
    await engine.stop(name);
  }
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('who holds the memory is killed: the instance is ended before it sees wrong memory, or goes on with the right one', { skip }, async (t) => {
  const { engine, boot } = await tell(t);
  const names = ['server, frozen', 'server, thawed', 'guard', 'both', 'server, without restored'].map((label, at) => [label, `k${at}`] as const);
  for (const [label, name] of names) {
    const one = await boot(name);
    await say(engine, one, ['check']);
    await freeze(engine, name);
    const pager = await until('a pager holds it', () => pagerOf(engine, name));
    if (label !== 'server, frozen' && label !== 'both') await thaw(engine, name);
    if (label === 'guard') {
      process.kill(pager.guard, 'SIGKILL');
      await until('it is gone', () => ['', 'Z'].includes(engine.place.stat(pager.guard)));
      t.same(await say(engine, one, ['drop', 'check', 'fork']), right(['drop', 'check', 'fork']), `${label}: it goes on`);
      await freeze(engine, name);
      await thaw(engine, name);
      t.same(await say(engine, one, ['check']), ['check 0'], `${label}: and can be frozen again`);
      await engine.stop(name);
      continue;
    }
    if (label === 'server, without restored') {
      await engine.killDaemon('restored');
      t.same(await say(engine, one, ['move']), ['move 0'], `${label}: nobody else is needed`);
      process.kill(pager.server, 'SIGKILL');
      await until('the instance is ended by the guard', () => ['', 'Z'].includes(engine.place.stat(one.pid)));
      await engine.startDaemon('restored');
      t.same(await engine.list(), [], label);
      continue;
    }
    process.kill(pager.server, 'SIGKILL');
    if (label === 'both') process.kill(pager.guard, 'SIGKILL');
    const exit = await until(`${label}: its end is told`, () => engine.exits.find((news) => news.instance === name));
    t.equal(exit.status, 'ended', label);
  }
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('killed when it has stored the memory of what stands in the freezer, a pager is heard to be dead, for only a thaw lets the instance die', { skip }, async (t) => {
  const { engine, boot } = await tell(t);
  const one = await boot('one');
  await say(engine, one, ['check']);
  const pager = spawn(tools.box, ['pager', '--cgroup', one.cgroup.memory, '--instance', `${one.pid}`, '--held', heldPath(engine.runFolder, 'one'), '--socket', pagerPath(engine.runFolder, 'one')]);
  const { cgroup } = one;
  let said = '';
  let over = false;
  pager.stdout.on('data', (text: Buffer) => (said += text.toString())).on('end', () => (over = true));
  await until('it has stored', () => /^stored [1-9]/m.test(said));
  setFrozen(cgroup, true);
  await until('the freezer holds it', () => isFrozen(cgroup));
  process.kill(Number(/^pages (\d+)$/m.exec(said)?.[1]), 'SIGKILL');
  await until('nobody is left to say more', () => over);
  t.ok(isFrozen(cgroup), 'while it is still frozen');
  t.notMatch(said, /^held/m);
  setFrozen(cgroup, false);
  t.equal((await until('its end is told', () => engine.exits.find((news) => news.instance === 'one'))).status, 'ended');
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('kill -9 of restored and of the pager at any moment of a freeze: it is whole, or ended', { skip }, async (t) => {
  const random = chance(t);
  const { engine, boot } = await tell(t);
  for (let round = 0; round < rounds(6, 100); round += 1) {
    const name = `r${round}`;
    const one = await boot(name);
    await say(engine, one, ['check']);
    if (round % 2 === 1) {
      await freeze(engine, name);
      await thaw(engine, name);
      await say(engine, one, ['write']);
    }
    const waitMs = random() * 400;
    const froze = freeze(engine, name).catch(() => null);
    await moment(waitMs);
    const victims = round % 3 === 0 ? null : pagerOf(engine, name);
    if (victims) process.kill(round % 3 === 1 ? victims.server : victims.guard, 'SIGKILL');
    else await engine.killDaemon('restored');
    await froze;
    if (!victims) await engine.startDaemon('restored');
    const label = `round ${round}: ${victims ? (round % 3 === 1 ? 'server' : 'guard') : 'restored'} killed after ${waitMs.toFixed(0)} ms`;
    await thaw(engine, name).catch(() => undefined);
    /* Who waits for one of both in vain would keep this process when the test is over. */
    let isOver = false;
    const ended = until('its end is told', () => isOver || engine.exits.find((news) => news.instance === name), 30_000).then(() => ['ended'], () => ['lives']);
    const answer = await Promise.race([say(engine, one, ['check', 'fork'], () => isOver).catch(() => ended), ended]);
    if (answer[0] === 'check 0') t.same(answer, right(['check', 'fork']), `${label}: whole`);
    else t.same([await ended, victims !== null], [['ended'], true], `${label}: ended`);
    isOver = true;
    await engine.stop(name);
    await engine.nothingRemains(t, `${label}: nothing is left`);
  }
});
