import { createHash, randomBytes } from 'node:crypto';
import t from 'tap';
import type { AccessesAnswer } from '../../conduit/api/answers.ts';
import { asleep, instanceProcesses, openFaultWorld, until, writeApp } from './faults/fault-world.ts';
import { begin, clientsOf, isReady, openTerminal, run, sessionsLeft, sleeps } from './session-client.ts';

t.setTimeout(600_000); // deploys, and daemons that are killed, on whatever machine

const app = 'desk';

t.test('a command, and a terminal, in an instance', async (t) => {
  const world = await openFaultWorld(t);
  const ada = await world.newProvider('ada');
  await ada.deploy(writeApp(world.folder, app, { manifest: 'env = { COLOUR = "blue" }\n[scale]\nidleSeconds = 1' }));
  t.equal((await run(t, world, ada, ['secrets', 'set', 'PASS', '--app', app], 'xyzzy')).exitCode, 0);
  await asleep(world);

  await t.test('what it is given is what the app has', async (t) => {
    const ran = await run(t, world, ada, ['ssh', app, '--', 'sh', '-c', 'pwd; id -u; echo $COLOUR $PASS $PORT $EDGEPOINT_APP; cat /run/secrets/PASS; echo; hostname; echo oops >&2; exit 7']);
    t.equal(ran.text, `/app\n0\nblue xyzzy 3000 ${app}\nxyzzy\n${app}\n`);
    t.equal(ran.stderr, 'oops\n');
    t.equal(ran.exitCode, 7);
    const rights = await run(t, world, ada, ['ssh', app, '--', 'sh', '-c', 'for pid in 1 self; do grep -E "^(Cap(Eff|Bnd|Prm|Inh|Amb)|NoNewPrivs|Seccomp|Uid|Gid|Groups):" /proc/$pid/status; cat /proc/$pid/cgroup; done']);
    const lines = rights.text.trim().split('\n');
    t.same(lines.slice(lines.length / 2).map(withoutSession), lines.slice(0, lines.length / 2), 'no more, and no less, than the app’s own first process');
    t.match(rights.text, /^Seccomp:\t2$/m);
  });
  await t.test('bytes pass whole, both ways and apart', async (t) => {
    const sent = randomBytes(3 * 1024 * 1024);
    const ran = await run(t, world, ada, ['ssh', app, '--', 'sh', '-c', 'tee /dev/stderr | cat'], sent);
    t.equal(hashOf(ran.stdout), hashOf(sent));
    t.equal(ran.stderr.length > 0, true);
    t.equal(ran.exitCode, 0);
    t.match(await run(t, world, ada, ['ssh', app], 'echo from a script; exit 3'), { text: 'from a script\n', exitCode: 3 }, 'a shell reads stdin, where there is no terminal');
  });

  await t.test('how it ends', async (t) => {
    t.match(await run(t, world, ada, ['ssh', app, '--', 'no-such-program']), { exitCode: 127, stderr: 'cannot run no-such-program: No such file or directory\n' });
    t.match(await run(t, world, ada, ['ssh', app, '--', '/etc/passwd']), { exitCode: 126, stderr: 'cannot run /etc/passwd: Permission denied\n' });
    t.match(await run(t, world, ada, ['ssh', app, '--', 'sh', '-c', 'kill -KILL $$']), { exitCode: 137 });
    t.match(await run(t, world, ada, ['ssh', app, '--', 'sh', '-c', 'sleep 1000 & echo left behind']), { exitCode: 0, text: 'left behind\n' }, 'it does not wait for what the command leaves behind');
    t.match(await run(t, world, ada, ['ssh', 'nothing-here', '--', 'true']), { exitCode: 255, stderr: /no app named/ });
    t.match(await run(t, world, ada, ['ssh', app, '--nonsense']), { exitCode: 255 });
    t.match(await run(t, world, ada, ['ssh', app, '-t', '--', 'true']), { exitCode: 255, stderr: /no terminal here/ });
    t.match(await run(t, world, ada, ['ssh', app, '--', 'echo', 'x'.repeat(9000)]), { exitCode: 255, stderr: /over 8192 bytes/ });
    t.match(await run(t, world, ada, ['ssh', app, '--at', 'nowhere', '--', 'true']), { exitCode: 255, stderr: /no edgepoint "nowhere"/ });
    const eve = await world.newProvider('eve');
    t.match(await run(t, world, eve, ['ssh', app, '--', 'true']), { exitCode: 255, stderr: /no app named/ });
  });

  await t.test('a session keeps its instance awake, and what it started ends with it', async (t) => {
    const session = begin(t, world, ada, ['ssh', app, '--', 'sh', '-c', 'setsid sleep 4321 & sleep 4322 & echo begun; wait']);
    await until('it has begun', () => session.stdout() === 'begun\n');
    await new Promise((resolve) => setTimeout(resolve, 4000)); // several idle times
    t.equal(sleeps(world).length, 2, 'it is there still');
    session.child.kill('SIGKILL');
    await until('all that it started has ended', () => sleeps(world).length === 0);
    await asleep(world);
  });

  await t.test('a terminal', async (t) => {
    const terminal = openTerminal(t, world, ada, ['ssh', app]);
    await terminal.sees(/^pty (\S+)$/m);
    await terminal.sees(/[$#] $/);
    terminal.type('echo "<$(tty) $(stty size) $(id -u) $TERM $PASS>"\n');
    await terminal.sees(/^<\/dev\/pts\/0 33 99 0 xterm xyzzy>$/m);
    await terminal.stty('rows', '50', 'cols', '120');
    await until('the new size is there', async () => {
      terminal.type('echo "<$(stty size)>"\n');
      return terminal.saw(/^<50 120>$/m);
    }, 30_000, 500);
    terminal.type('sleep 4323; echo "<after $?>"\n');
    await until('it sleeps', () => sleeps(world).length === 1);
    terminal.type('\u0003');
    await until('Ctrl-C ended it', () => sleeps(world).length === 0);
    terminal.type('echo "<goes on>"\n');
    await terminal.sees(/^<goes on>$/m);
    t.notMatch(await terminal.stty('-a'), / icanon/, 'raw while it is there');
    terminal.type('exit 9\n');
    await terminal.sees(/^ended 9$/m);
    t.match(await terminal.stty('-a'), / icanon/, 'and put right');
    terminal.end();
    await asleep(world);
  });

  await t.test('a terminal whose client is killed is put right', async (t) => {
    const terminal = openTerminal(t, world, ada, ['ssh', app, '-t', '--', 'sh', '-c', 'echo "<pid of sleep>"; sleep 4324']);
    await until(() => `it sleeps: ${terminal.said()}`, () => sleeps(world).length === 1);
    const client = clientsOf(world);
    t.equal(client.length, 1);
    for (const pid of client) process.kill(pid, 'SIGKILL');
    await terminal.sees(/^ended 137$/m);
    await until('it is put right', async () => / icanon/.test(await terminal.stty('-a')));
    await until('what it ran has ended', () => sleeps(world).length === 0);
    terminal.end();
    await asleep(world);
  });

  await t.test('daemons are killed', async (t) => {
    for (const name of ['conduit', 'head', 'restored']) {
      await isReady(ada, app);
      const session = begin(t, world, ada, ['ssh', app, '--', 'sh', '-c', 'sleep 4325 & echo begun; wait']);
      await until(() => `it has begun: ${session.stderr()}`, () => session.stdout() === 'begun\n');
      const { edgepoint } = (await ada.status(app)).sites.find(({ state }) => (state?.instances['warm'] ?? 0) > 0) ?? (await ada.status(app)).sites[0] ?? { edgepoint: '' };
      await world.kill(name === 'conduit' ? name : `${edgepoint}-${name}`, 'SIGKILL');
      const { exitCode } = await session.ended;
      t.ok(exitCode === 255 || (name === 'restored' && exitCode === 137), `${name}: ${exitCode}`);
      await world.allHealthy(60_000);
      await until('what it ran has ended', () => sleeps(world).length === 0, 60_000);
      await until('nothing is awake', () => instanceProcesses(world.id).length === 0, 180_000);
    }
    await isReady(ada, app);
    t.match(await run(t, world, ada, ['ssh', app, '--', 'echo', 'again']), { exitCode: 0, text: 'again\n' });
  });

  await t.test('only so many at once', async (t) => {
    const sessions = Array.from({ length: 8 }, () => begin(t, world, ada, ['ssh', app, '--', 'sh', '-c', 'echo begun; cat']));
    await until('all have begun', () => sessions.every((one) => one.stdout() === 'begun\n'), 60_000);
    t.match(await run(t, world, ada, ['ssh', app, '--', 'true']), { exitCode: 255, stderr: /8 sessions of the app are open/ });
    for (const one of sessions) one.child.stdin.end();
    t.same(new Set((await Promise.all(sessions.map((one) => one.ended))).map(({ exitCode }) => exitCode)), new Set([0]));
    await asleep(world);
  });

  await t.test('all of it has been written down', async (t) => {
    const { accesses } = await ada.json<AccessesAnswer>(['audit', app, '-n', '1000']);
    const first = accesses.at(-1);
    t.match(first, { kind: 'ssh', tokenId: ada.token.split('_')[1], command: ['sh', '-c', /^pwd; /], terminal: false, code: '', exitStatus: 7, instance: /^i-/ });
    t.ok((first?.tookMs ?? 0) > 0);
    t.notMatch(JSON.stringify(accesses), /xyzzy/, 'and nothing of what was said');
    t.ok(accesses.some((one) => one.command.length === 0 && one.terminal && one.exitStatus === 9), 'the shell on a terminal');
    t.ok(accesses.some((one) => one.code === 'client-gone' && one.exitStatus === null), 'the client that was killed');
    t.ok(accesses.some((one) => one.code === 'conduit-lost' && one.tookMs === null), 'what a conduit that was killed had open');
    t.ok(accesses.some((one) => one.code === 'busy'), 'what was refused');
    t.same(accesses.filter((one) => one.code === null), [], 'nothing is open');
    const eve = await world.newProvider('eve');
    t.match(await eve.conduit(['audit', app]), { exitCode: 5 });
  });

  t.same(sessionsLeft(world), [], 'nothing is left of a session');
  t.equal((await ada.conduit(['delete', app, '--yes'])).exitCode, 0);
  await world.stop(t);
});

/** A session is in a cgroup below the instance's, which it sees as the root. */
const withoutSession = (line: string): string => line.replace(/\/session-[-0-9a-f]+$/, '/');

const hashOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
