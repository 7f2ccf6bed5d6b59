import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { type Offering, offerings } from '../../edgepoint/model/offering.ts';
import { makeArtefact, patchworkProgram, rememberProgram } from './app.ts';
import { type Engine, openEngine, until } from './engine.ts';
import { holdFill, isFilling, slowFills, stopSlowOne } from './slow-fill.ts';

t.setTimeout(120_000);

const mebibyte = 2 ** 20;
const offering: Offering = { ...(offerings[0] as Offering), name: 'test', cpuMillis: 2000, memoryBytes: 1024 * mebibyte, diskBytes: 16 * mebibyte, pidsMax: 64 };
const megabytes = 96;
/** Everything that can happen to memory while it is on its way; each word ends with 0 pages that hold something wrong. */
const turmoil = ['drop', 'move', 'fork', 'write', 'holes', 'replace', 'protect', 'check'];

interface Story {
  readonly engine: Engine;
  readonly order: (name: string, change?: Partial<Parameters<Engine['order']>[1]>) => ReturnType<Engine['order']>;
  readonly template: string;
  readonly clone: (name: string, change?: Partial<Parameters<Engine['order']>[1]>) => Promise<RunningInstance>;
}

/** An engine that restores everything lazily, and the template of a program that knows its memory by heart. */
async function tell(t: Parameters<typeof openEngine>[0], poolSize = 2): Promise<Story> {
  const engine = await openEngine(t, { poolSize, lazyFromBytes: 0 });
  const artefactPath = makeArtefact(engine.folder, 'remember', { remember: rememberProgram(engine.folder) });
  const order: Story['order'] = (name, change = {}) => engine.order(name, { artefactPath, offering, command: ['/app/remember', `${megabytes}`], ...change });
  const first = await engine.boot(order('first'));
  t.same(await say(engine, first, ['check']), ['check 0'], 'it knows its memory');
  const template = engine.snapshotPath('memory');
  await engine.snapshot('first', template, false);
  return { engine, order, template, clone: (name, change) => engine.restore({ ...order(name, change), snapshotPath: template, continues: false }) };
}

/** Sends the words in one line and returns the answer's lines. */
async function say(engine: Engine, instance: { readonly address: string }, words: readonly string[]): Promise<string[]> {
  const socket = await engine.connect(instance);
  let text = '';
  socket.setEncoding('utf8').on('data', (part: string) => (text += part));
  socket.write(`${words.join(' ')}\n`);
  await Promise.race([once(socket, 'end'), once(socket, 'close')]);
  socket.destroy();
  return text.trim().split('\n');
}

const whole = (engine: Engine, instance: string): Promise<unknown> => until(`all memory of ${instance} is there`, () => !isFilling(engine, instance), 30_000);

t.test('an instance remembers every page, whatever it does with its memory while it is on its way', async (t) => {
  const { engine, clone } = await tell(t, 4);
  const clones = await Promise.all(['a', 'b', 'c', 'd'].map((name) => clone(name)));
  const orders = [turmoil, turmoil.toReversed(), ['check', ...turmoil], ['fork', 'fork', ...turmoil]];
  const answers = await Promise.all(clones.map((instance, index) => say(engine, instance, orders[index] as string[])));
  for (const [index, answer] of answers.entries()) t.same(answer, (orders[index] as string[]).map((word) => `${word} 0`), `clone ${index + 1}`);
  for (const instance of clones) await whole(engine, instance.instance);
  for (const instance of clones) t.same(await say(engine, instance, ['check', 'fork']), ['check 0', 'fork 0'], 'and afterwards');
  t.equal((await engine.list()).length, 4, 'none was ended');
  for (const instance of clones) await engine.stop(instance.instance);
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('the same, slowly: the instance is served long before its memory is there, and may end, or be stopped, or sleep', async (t) => {
  const { engine, order, clone } = await tell(t, 6);
  const fast = await slowFills(engine, 5, 400);
  const held = async (name: string): Promise<RunningInstance & ReturnType<typeof holdFill>> => ({ ...(await clone(name)), ...holdFill(engine, name) });
  const [slow, , dead] = await Promise.all([held('slow'), held('stopped'), held('dead')]);
  t.ok(isFilling(engine, 'slow') && isFilling(engine, 'stopped') && isFilling(engine, 'dead'), 'they run, and their memory is on its way');
  await engine.stop('stopped');
  process.kill(dead.pid, 'SIGKILL');
  await until('the end of one that dies is told', () => engine.exits.find((exit) => exit.instance === 'dead'));
  slow.goOn();
  t.same(await say(engine, slow, ['drop', 'move', 'replace', 'protect']), ['drop 0', 'move 0', 'replace 0', 'protect 0']);
  const { goOn } = holdFill(engine, 'slow');
  const asleep = engine.snapshotPath('asleep');
  t.ok(isFilling(engine, 'slow'), 'it is ordered to sleep before its memory is there');
  const slept = engine.snapshot('slow', asleep, false);
  goOn();
  fast();
  await slept;
  const awake = await engine.restore({ ...order('slow'), snapshotPath: asleep, continues: false });
  t.same(await say(engine, awake, turmoil), turmoil.map((word) => `${word} 0`), 'it slept with all of it');
  await whole(engine, 'slow');
  t.same((await engine.list()).map((instance) => instance.instance), ['slow']);
  await engine.nothingRemains(t, 'nothing is left of the others');
});

t.test('one whose memory is more than its offering allows ends, or is squeezed where the machine swaps, and harms nobody', async (t) => {
  const { engine, clone } = await tell(t);
  const neighbour = await clone('neighbour');
  const small = await clone('small', { offering: { ...offering, memoryBytes: (megabytes * mebibyte) / 2 } }).catch((error: Error) => error.message);
  const answer = typeof small === 'string' ? [] : await say(engine, small, ['check']).catch(() => []);
  const ended = typeof small === 'string' || answer[0] !== 'check 0';
  if (typeof small === 'string') t.match(small, /CRIU|pages server/, 'it ended before it was restored');
  else if (ended) t.equal((await until('its end is told', () => engine.exits.find((news) => news.instance === 'small'))).status, 'ended');
  t.same(answer.filter((line) => line !== '' && line !== 'check 0'), [], 'it never sees wrong memory');
  t.same(await say(engine, neighbour, ['check']), ['check 0']);
  t.same((await engine.list()).map((instance) => instance.instance).toSorted(), ended ? ['neighbour'] : ['neighbour', 'small']);
  await whole(engine, 'neighbour');
  if (!ended) await engine.stop('small');
  await engine.nothingRemains(t, 'nothing is left of it');
});

/** The mappings without a file: where they stand, what may be done with them, and what the kernel was advised (proc(5), smaps). */
function anonymousMappings(pid: number): string[] {
  const found: string[] = [];
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const [, range, protection, path] = /^([0-9a-f]+-[0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)$/.exec(line) ?? [];
    if (range !== undefined) found.push(`${range} ${protection} ${path}`);
    const flags = /^VmFlags: (.*)$/.exec(line)?.[1]?.split(' ');
    /* `ac`: counted as memory that may be written; `sd`: written since somebody looked. Both are of the kernel's own books. */
    if (flags !== undefined) found.push(`${found.pop()} ${flags.filter((flag) => flag !== 'ac' && flag !== 'sd').join(' ').trim()}`);
  }
  return found.filter((line) => / (?:\[heap\]|\[stack\])? /.test(line));
}

for (const edge of [[], ['edge']]) {
  t.test(`hundreds of mappings come back where they were, as they were${edge.length > 0 ? ', also all at once' : ''}`, async (t) => {
    const engine = await openEngine(t, { poolSize: 2, lazyFromBytes: 0 });
    const artefactPath = makeArtefact(engine.folder, 'patchwork', { patchwork: patchworkProgram(engine.folder) });
    const order = (name: string): ReturnType<Engine['order']> => engine.order(name, { artefactPath, offering, command: ['/app/patchwork', ...edge] });
    const first = await engine.boot(order('first'));
    t.same(await say(engine, first, ['check']), ['0 wrong']);
    const before = anonymousMappings(first.pid);
    t.ok(before.length > 700, `${before.length} mappings`);
    const template = engine.snapshotPath('patchwork');
    await engine.snapshot('first', template, false);
    const again = await engine.restore({ ...order('again'), snapshotPath: template, continues: false });
    t.same(await say(engine, again, ['check']), ['0 wrong'], 'while they come');
    await whole(engine, 'again');
    t.same(anonymousMappings(again.pid), before);
    t.same(await say(engine, again, ['check']), ['0 wrong'], 'when they are there');
    await engine.stop('again');
    await engine.nothingRemains(t, 'nothing is left');
  });
}

t.test('one that continues goes on across sleeps that come before its memory is there', async (t) => {
  const { engine, order } = await tell(t);
  const keep = order('kept', { ownNetwork: true });
  const first = await engine.boot(keep);
  t.same(await say(engine, first, ['check']), ['check 0']);
  for (const [nap, words] of [['write'], ['move', 'fork'], ['drop'], ['holes', 'replace', 'protect']].entries()) {
    const path = engine.snapshotPath(`nap${nap}`);
    await engine.snapshot('kept', path, false);
    const awake = await engine.restore({ ...keep, address: first.address, snapshotPath: path, continues: true });
    t.equal(awake.address, first.address);
    t.same(await say(engine, awake, [...words, 'check']), [...words, 'check'].map((word) => `${word} 0`), `nap ${nap + 1}`);
  }
  await engine.stop('kept');
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('who gives memory is killed: the instance is ended before it sees wrong memory, or goes on with the right one', async (t) => {
  const { engine, clone } = await tell(t, 6);
  const fast = await slowFills(engine, 5, 400);
  const held = async (name: string): Promise<RunningInstance & ReturnType<typeof holdFill>> => ({ ...(await clone(name)), ...holdFill(engine, name) });
  const [first, second, third, fourth] = await Promise.all([held('one'), held('two'), held('three'), held('four')]);
  const asking = await engine.connect(first);
  const told = new Promise<string>((resolve) => {
    let text = '';
    asking.on('data', (part: Buffer) => (text += part.toString())).on('error', () => resolve(text)).on('close', () => resolve(text)).on('end', () => resolve(text));
  });
  for (const { guard, server } of [first, second]) for (const pid of [server, guard]) stopSlowOne(pid);
  for (const pid of [fourth.guard, third.guard]) stopSlowOne(pid);
  process.kill(first.guard, 'SIGCONT');
  process.kill(fourth.guard, 'SIGCONT');
  asking.write('check\n');
  process.kill(first.server, 'SIGKILL');
  t.equal((await until('the loss of the server is noticed', () => engine.exits.find((exit) => exit.instance === 'one'))).status, 'ended');
  asking.end();
  t.notOk((await told).includes('check 0'), 'nobody was told that all is well');
  process.kill(second.server, 'SIGKILL');
  process.kill(second.guard, 'SIGKILL');
  t.equal((await until('the loss of both is noticed', () => engine.exits.find((exit) => exit.instance === 'two'))).status, 'ended');
  process.kill(third.guard, 'SIGKILL');
  await engine.killDaemon('restored');
  fourth.goOn();
  t.same(await say(engine, fourth, ['drop']), ['drop 0'], 'restored is not needed for it');
  holdFill(engine, 'four');
  await engine.startDaemon('restored');
  t.same((await engine.list()).map((instance) => instance.instance).toSorted(), ['four', 'three'], 'the next restored adopts those that are being filled');
  stopSlowOne(fourth.server);
  process.kill(fourth.server, 'SIGKILL');
  t.equal((await until('and notices their loss', () => engine.exits.find((exit) => exit.instance === 'four'))).status, 'ended');
  fast();
  third.goOn();
  await whole(engine, 'three');
  t.same(await say(engine, third, turmoil), turmoil.map((word) => `${word} 0`), 'without its guard a server goes on');
  await until('and ends', () => ['', 'Z'].includes(engine.place.stat(third.server)));
  await engine.stop('three');
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('lost before the restore is done, it is the restore that fails; and so does one from a damaged snapshot', async (t) => {
  const { engine, clone } = await tell(t);
  // Spoilt in memory, where it lies verified: what is spoilt at rest is not unpacked at all (spoilt.test.ts).
  const hot = engine.place.path(join(engine.runFolder, 'templates/hot'));
  const template = join(hot, await until('it is unpacked', () => readdirSync(hot)[0]));
  const images = join(template, 'images');
  const name = (pattern: RegExp): string => join(images, readdirSync(images).find((file) => pattern.test(file)) as string);
  const pages = name(/^pages-\d/);
  const map = name(/^pagemap-\d/);
  writeFileSync(join(template, 'first-pages'), Buffer.alloc(8000, 0xa5));
  t.same(await say(engine, await clone('hinted'), ['check']), ['check 0'], 'a wrong hint of what is wanted first does no harm');
  await engine.stop('hinted');
  const memory = readFileSync(pages);
  const fast = await slowFills(engine, 1, 400);
  await clone('late');
  const { goOn } = holdFill(engine, 'late');
  truncateSync(pages, 4096);
  goOn();
  fast();
  t.equal((await until('one whose snapshot is cut while it is filled ends', () => engine.exits.find((exit) => exit.instance === 'late'))).status, 'ended');
  writeFileSync(pages, memory);
  const bytes = statSync(pages).size;
  truncateSync(pages, bytes - 4096);
  await t.rejects(clone('cut'), { code: 'cannot-restore', message: /the pages server ended before the restore.*has \d+ of \d+ bytes/ });
  truncateSync(map, statSync(map).size - 3);
  await t.rejects(clone('cut'), { code: 'cannot-restore', message: /pagemap-1\.img is cut short/ });
  writeFileSync(map, Buffer.alloc(500, 0xa5));
  await t.rejects(clone('noise'), { code: 'cannot-restore', message: /pagemap-1\.img is no page map/ });
  rmSync(map);
  await t.rejects(clone('gone'), { code: 'cannot-restore' });
  t.same(await engine.list(), []);
  await engine.nothingRemains(t, 'nothing is left');
});
