import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { parseIgnoreRules } from '../../conduit/cli/ignore.ts';
import { guessManifest, manifestText } from '../../conduit/cli/init.ts';
import { packFolder } from '../../conduit/cli/pack.ts';
import { harmless } from '../../conduit/cli/terminal.ts';
import { readManifest } from '../../conduit/manifest/read.ts';
import { bun, root, run } from './rig.ts';

const emptyFolder = (t: Test): string => {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-cli-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
};

t.test('a wrong command line is told, with the likely word and exit code 2', async (t) => {
  const folder = emptyFolder(t);
  const conduit = (args: string[], env: Record<string, string> = {}) => run(bun, [join(root, 'conduit/cli/main.ts'), ...args], { cwd: folder, env: { HOME: folder, ...env } });
  const rows: readonly (readonly [args: string[], code: number, said: RegExp])[] = [
    [['deply'], 2, /unknown command 'deply'\n {2}Did you mean deploy\?/],
    [['logs', 'x', '--folow'], 2, /unknown option '--folow'\n {2}Did you mean --follow\?/],
    [['status'], 2, /missing required argument 'app'/],
    [['logs', 'x', '-n', 'many'], 2, /"many" is no count of entries/],
    [['login', 'http://127.0.0.1:1'], 2, /the token is missing/],
    [['login', 'http://127.0.0.1:1', '--token', 'x'], 6, /the conduit at http:\/\/127\.0\.0\.1:1 cannot be reached/],
    [['list'], 3, /you are not logged in to a conduit\n {2}Use `conduit login/],
    [['deploy'], 4, /there is no edgepoint\.toml in \.\n {2}`conduit init` writes one/],
    [['deploy', 'nowhere'], 4, /there is no edgepoint\.toml in nowhere/],
    [[], 2, /say what to do/],
  ];
  const tellings = await Promise.all(rows.map(([args]) => conduit(args)));
  for (const [index, [args, code, said]] of rows.entries()) {
    const told = tellings[index] ?? { code: -1, stdout: '', stderr: '' };
    t.equal(told.code, code, `${args.join(' ')}: ${told.stderr}`);
    t.match(told.stderr, said, args.join(' '));
    t.equal(told.stdout, '', 'nothing on stdout');
  }
  const asJson = await conduit(['deply', '--json']);
  t.match(JSON.parse(asJson.stderr), { code: 'command-line', message: "unknown command 'deply'", remedy: 'Did you mean deploy?' });

  writeFileSync(join(folder, 'edgepoint.toml'), 'app = "hello"\ncomand = ["node"]\nport = "80"\n');
  const refused = await conduit(['deploy']);
  t.equal(refused.code, 4);
  t.match(refused.stderr, /edgepoint\.toml:2: unknown key `comand`; did you mean `command`\?\nedgepoint\.toml:3: `port` must be a number/);

  const names = ['', 'login', 'init', 'deploy', 'list', 'status', 'logs', 'usage', 'delete'];
  const helps = await Promise.all(names.map((name) => conduit([...(name === '' ? [] : [name]), '--help'])));
  for (const [index, name] of names.entries()) {
    const help = helps[index] ?? { code: -1, stdout: '', stderr: '' };
    t.equal(help.code, 0);
    t.match(help.stdout, /Usage: conduit[\s\S]*Examples:\n {2}\$ /, `${name} --help has examples`);
  }
});

t.test('the same folder gives the same digest, whatever its times and the order on disk', async (t) => {
  const make = (names: readonly string[]): string => {
    const folder = emptyFolder(t);
    mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true });
    for (const name of names) writeFileSync(join(folder, name), name);
    symlinkSync('../../b', join(folder, 'node_modules/.bin/b'));
    return folder;
  };
  const one = await packFolder(make(['a', 'b', '@c']), () => undefined);
  const two = await packFolder(make(['@c', 'b', 'a']), () => undefined);
  t.equal(one.digest, two.digest);
  t.equal(one.files, 6);
  const chunks: Uint8Array[] = [];
  for await (const chunk of one.read()) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  t.equal(bytes.length, one.bytes);
  t.equal(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, one.digest, 'what is read is what was packed');
  one.dispose();
  two.dispose();

  const bad = make(['a']);
  symlinkSync('/etc/passwd', join(bad, 'secrets'));
  await t.rejects(packFolder(bad, () => undefined), { code: 'archive-link', message: /"secrets" is a link to the absolute path "\/etc\/passwd"/ });
});

t.test('a command that is ended in the middle of an upload leaves nothing behind', async (t) => {
  const folder = emptyFolder(t);
  writeFileSync(join(folder, 'edgepoint.toml'), manifestText(await guessManifest('hello', async () => null)));
  // More than the sockets on the way can hold, so that the command waits in the middle of it.
  writeFileSync(join(folder, 'big'), randomBytes(64 * 1024 * 1024));
  let begun = (): void => undefined;
  // A conduit that takes the first of an upload and reads no further.
  const server = createServer((request, response) => {
    if (request.url?.endsWith('/login') === true) {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ provider: 'p', zoneName: 'edge.test', uploadBytesMax: 2 ** 40 }));
    } else request.once('data', () => (request.pause(), begun()));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => (server.closeAllConnections(), server.close()));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  for (const end of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGKILL', 'its reader goes'] as const) {
    const [home, temporary] = [emptyFolder(t), emptyFolder(t)];
    const env = { PATH: process.env['PATH'] ?? '', HOME: home, TMPDIR: temporary };
    t.equal((await run(bun, [join(root, 'conduit/cli/main.ts'), 'login', url, '--token', 'x'], { env })).code, 0);
    const uploading = new Promise<void>((resolve) => (begun = resolve));
    const child = spawn(bun, [join(root, 'conduit/cli/main.ts'), 'deploy', folder], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    child.stderr.resume();
    child.stdout.resume();
    await uploading;
    const ended = once(child, 'close');
    if (end === 'its reader goes') {
      child.stdout.destroy();
      child.stderr.destroy();
      server.closeAllConnections();
    } else child.kill(end);
    await ended;
    t.same(readdirSync(temporary), [], end);
  }
});

t.test('.edgepointignore', async (t) => {
  const rows: readonly (readonly [rules: string, path: string, isDirectory: boolean, ignored: boolean])[] = [
    ['', '.git', true, true],
    ['', 'src/.git', true, true],
    ['', '.gitignore', false, false],
    ['', 'node_modules', true, false],
    ['*.log', 'a.log', false, true],
    ['*.log', 'logs/a.log', false, true],
    ['*.log', 'a.log.txt', false, false],
    ['/a', 'a', false, true],
    ['/a', 'b/a', false, false],
    ['docs/', 'docs', true, true],
    ['docs/', 'docs', false, false],
    ['src/**/test', 'src/a/b/test', true, true],
    ['src/**/test', 'src/test', true, true],
    ['*.log\n!keep.log', 'keep.log', false, false],
    ['# a', '# a', false, false],
    ['a?c', 'abc', false, true],
    ['a?c', 'a/c', false, false],
    ['[ab]x', 'bx', false, true],
    ['[!ab]x', 'bx', false, false],
    ['a.b', 'aXb', false, false],
    ['a\\*', 'a*', false, true],
  ];
  for (const [rules, path, isDirectory, ignored] of rows) t.equal(parseIgnoreRules(rules).ignores(path, isDirectory), ignored, `${JSON.stringify(rules)} ${path}`);
});

t.test('init guesses from what is there, and what it writes is right', async (t) => {
  const rows: readonly (readonly [files: Record<string, string>, guess: Record<string, unknown>])[] = [
    [{ 'package.json': '{"name":"@me/My_App","scripts":{"start":"node dist/main.js --x=1"}}' }, { app: 'my-app', command: ['node', 'dist/main.js', '--x=1'], port: 3000 }],
    [{ 'package.json': '{"name":"x","scripts":{"start":"FOO=$BAR node a && b"},"main":"a.js"}', 'a.js': 'app.listen(8080)' }, { command: ['node', 'a.js'], port: 8080 }],
    [{ 'server.js': "const port = process.env.PORT ?? '4000'" }, { app: 'folder', command: ['node', 'server.js'], port: 4000 }],
    [{ 'package.json': 'not json' }, { app: 'folder', command: ['node', 'server.js'], port: 3000 }],
    [{ 'package.json': '{"name":"123"}' }, { app: 'app' }],
  ];
  for (const [files, guess] of rows) {
    const made = await guessManifest('Folder', async (path) => files[path] ?? null);
    t.match(made, guess);
    t.match(readManifest(manifestText(made)), { ok: true });
  }
});

t.test('what others wrote cannot command the terminal', async (t) => {
  t.equal(harmless('a\u001b[2Jb\r\u0007\u009bc\n\td'), 'a\ufffd[2Jb\ufffd\ufffd\ufffdc\n\td');
});

t.test('the examples are right', async (t) => {
  const names = readdirSync(join(root, 'examples'), { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  t.ok(names.includes('hello'));
  for (const name of names) {
    const read = readManifest(readFileSync(join(root, 'examples', name, 'edgepoint.toml'), 'utf8'));
    t.ok(read.ok, `${name}: ${read.ok ? '' : read.problems.map((problem) => problem.text).join('\n')}`);
  }
  const folder = emptyFolder(t);
  for (const file of ['server.mjs', 'edgepoint.toml']) copyFileSync(join(root, 'examples/spread', file), join(folder, file));
  const packed = await packFolder(folder, () => undefined);
  t.equal(packed.files, 2);
  packed.dispose();
});
