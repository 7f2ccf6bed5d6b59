import { readFileSync } from 'node:fs';
import t from 'tap';
import { readZramSwap } from '../../../host/zram.ts';
import { ask, instanceProcesses, openFaultWorld, until, writeApp } from './fault-world.ts';

/** Cannot be snapshotted (it watches a file that has been deleted), boots slowly, and remembers who came. */
const server = `import { createServer } from 'node:http';
import { watch, writeFileSync, openSync, unlinkSync } from 'node:fs';
writeFileSync('/tmp/watched', 'x');
globalThis.watcher = watch('/tmp/watched', () => undefined);
globalThis.held = openSync('/tmp/watched', 'r');
unlinkSync('/tmp/watched');
let guests = 0;
setTimeout(() => createServer((_, response) => response.end(String(guests += 1))).listen(process.env.PORT, '0.0.0.0'), 1500);
`;

t.test('an app that boots slowly is frozen when it is idle, and thawed by the next request', { skip: readZramSwap() === null ? 'this machine has no swap on zram' : false }, async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, 'slow', { server, manifest: '[scale]\nidleSeconds = 0.5\nmax = 1\n' }));
  const [first] = world.edgepoints;
  if (first === undefined) throw new Error('a world without an edgepoint');
  const get = (): ReturnType<typeof ask> => ask({ host: first.ipv4, name: 'slow.edge.test', path: '/' });
  const count = Number((await get()).body);
  t.ok(count > 0, 'the first request is answered after a cold boot');
  let said = '';
  const isFrozen = async (): Promise<boolean> => {
    const site = (await ada.status('slow')).sites.find(({ edgepoint }) => edgepoint === first.edgepoint);
    said = `${JSON.stringify(site?.state?.instances)}; ${world.logOf(`${first.edgepoint}-head`).split('\n').filter((line) => /"kind":"(sleep|wake|fault)"/.test(line)).slice(-3).map((line) => line.slice(line.indexOf(`"text"`))).join('\n')}`;
    return site?.state?.instances['frozen'] === 1;
  };
  const untilFrozen = (): Promise<void> => until(() => `it is frozen, and status says so: ${said}`, isFrozen);
  let last = count;
  for (let round = 0; round < 3; round += 1) {
    await untilFrozen();
    const [pid = 0] = instanceProcesses(world.id, first.edgepoint).filter((one) => /node/.test(commandOf(one)));
    t.match(stateOf(pid), /^[DTS]/, 'its process is there and stands still');
    const fromMs = performance.now();
    const answers = await Promise.all([get(), get(), get()]);
    t.comment(`three requests answered within ${(performance.now() - fromMs).toFixed(1)} ms`);
    t.same(answers.map(({ status, body }) => [status, Number(body)]).toSorted(([, one = 0], [, other = 0]) => one - other), [1, 2, 3].map((more) => [200, last + more]), 'it remembers who came, and loses nobody');
    last += 3;
  }
  const status = await ada.conduit(['status', 'slow']);
  t.match(status.stdout, /1 (frozen|warm)/, 'people read it too');

  await untilFrozen();
  await world.kill(`${first.edgepoint}-restored`, 'SIGKILL');
  await world.kill(`${first.edgepoint}-head`, 'SIGKILL');
  await world.allHealthy();
  t.equal((await get()).body, String(last + 1), 'also after kill -9 of restored and of the head');
  await untilFrozen();
  t.equal((await ada.conduit(['delete', 'slow', '--yes'])).exitCode, 0);
  await until('nothing of it is left', () => instanceProcesses(world.id).length === 0);
  await world.stop(t);
});

function commandOf(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
}

/** proc(5): the letter behind the name. */
function stateOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2);
}
