import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { until } from '../host/nats.ts';
import { rawTar, rawTarGz } from './archives.ts';
import type { RawEntry } from './archives.ts';
import { plainManifest, startConduit } from './rig.ts';
import type { ConduitWorld } from './rig.ts';

const manifest = (app = 'hello', more = ''): RawEntry => ({ path: 'edgepoint.toml', content: plainManifest(app, more) });
const good = rawTarGz([manifest(), { path: 'server.js', content: '//' }]);
const zeros = Buffer.alloc(100 * 1024 * 1024);

/** One row for each thing that is sent and refused. */
const uploads: readonly (readonly [label: string, status: number, code: string, said: RegExp, body: () => Buffer])[] = [
  ['a path out of the folder', 422, 'archive-path', /"\.\.\/evil" goes out of the folder/, () => rawTarGz([manifest(), { path: '../evil', content: 'x' }])],
  ['an absolute path', 422, 'archive-path', /"\/etc\/cron\.d\/x" is an absolute path/, () => rawTarGz([manifest(), { path: '/etc/cron.d/x', content: 'x' }])],
  ['a link out', 422, 'archive-link', /"a" is a link out of the folder, to "\.\.\/\.\.\/etc"/, () => rawTarGz([manifest(), { path: 'a', type: '2', target: '../../etc' }])],
  ['an absolute link', 422, 'archive-link', /absolute path/, () => rawTarGz([manifest(), { path: 'a', type: '2', target: '/etc' }])],
  ['a file through an earlier link', 422, 'archive-link', /lies behind the link "a"/, () => rawTarGz([manifest(), { path: 'a', type: '2', target: 'b' }, { path: 'a/x', content: 'x' }])],
  ['a hard link out', 422, 'archive-link', /hard link/, () => rawTarGz([manifest(), { path: 'a', type: '1', target: '../../etc/shadow' }])],
  ['a device', 422, 'archive-device', /"null" is a character device/, () => rawTarGz([manifest(), { path: 'null', type: '3' }])],
  ['a fifo', 422, 'archive-device', /"pipe" is a fifo/, () => rawTarGz([manifest(), { path: 'pipe', type: '6' }])],
  ['a bomb', 422, 'archive-bomb', /more than 200 times its size/, () => rawTarGz([manifest(), { path: 'zeros', content: zeros }])],
  ['not an archive', 422, 'archive-corrupt', /not a tar archive compressed by gzip/, () => Buffer.from('hello, hello, hello')],
  ['a tar that is not compressed', 422, 'archive-corrupt', /not a tar archive compressed by gzip/, () => rawTar([manifest()])],
  ['compressed twice', 422, 'archive-corrupt', /compressed twice/, () => gzipSync(good)],
  ['a cut gzip', 422, 'archive-truncated', /ends too early/, () => good.subarray(0, good.length - 20)],
  ['a cut tar', 422, 'archive-truncated', /ends too early/, () => gzipSync(rawTar([manifest(), { path: 'a', content: 'x'.repeat(2000) }]).subarray(0, 2048))],
  ['a tar without its end', 422, 'archive-truncated', /ends too early/, () => gzipSync(rawTar([manifest()], { ends: false }))],
  ['an empty body', 400, 'body-missing', /the archive is missing/, () => Buffer.alloc(0)],
  ['no manifest', 422, 'manifest-missing', /no edgepoint\.toml/, () => rawTarGz([{ path: 'server.js', content: '//' }])],
  ['a manifest in a folder below', 422, 'manifest-missing', /no edgepoint\.toml/, () => rawTarGz([{ path: 'app/edgepoint.toml', content: plainManifest('hello') }])],
  ['a manifest that is a link', 422, 'manifest-missing', /no edgepoint\.toml/, () => rawTarGz([{ path: 'x', content: plainManifest('hello') }, { path: 'edgepoint.toml', type: '2', target: 'x' }])],
  ['an unknown key', 422, 'manifest-invalid', /edgepoint\.toml:4: unknown key `comand`; did you mean `command`\?/, () => rawTarGz([manifest('hello', 'comand = 1\n')])],
  ['a wrong type', 422, 'manifest-invalid', /edgepoint\.toml:4: `offering` must be a text/, () => rawTarGz([manifest('hello', 'offering = 3\n')])],
  ['a manifest too big', 422, 'manifest-too-big', /larger than/, () => rawTarGz([manifest('hello', `# ${'x'.repeat(300_000)}\n`)])],
  ['another app’s manifest', 422, 'manifest-differs', /is of the app "other", but it was sent to "hello"/, () => rawTarGz([manifest('other')])],
  ['an upload that is too big', 413, 'upload-too-big', /larger than 2\.0 MiB/, () => Buffer.concat([good, Buffer.alloc(3 * 1024 * 1024, 'x')])],
];

const leftBehind = (world: ConduitWorld): string[] => [
  ...readdirSync(world.uploadFolder).filter((name) => name.endsWith('.part')),
  ...readdirSync(join(world.uploadFolder, 'artefacts')),
];

t.test('what is refused is refused with a stable code, and nothing of it stays', async (t) => {
  const world = await startConduit(t, { uploadBytesMax: 2 * 1024 * 1024 });
  const ada = await world.token('ada');
  const send = async (body: Buffer, headers: Record<string, string> = {}, app = 'hello', token = ada) => {
    const response = await world.ask(token, `/apps/${app}/releases`, { method: 'POST', body: new Uint8Array(body), headers });
    return { status: response.status, answer: (await response.json()) as { code: string; message: string; remedy: string } };
  };

  for (const [label, status, code, said, body] of uploads) {
    const { status: got, answer } = await send(body());
    t.same([got, answer.code], [status, code], `${label}: ${JSON.stringify(answer)}`);
    t.match(answer.message, said, label);
    t.same(leftBehind(world), [], `${label}: nothing stays`);
  }
  const damaged = await send(good, { 'x-artefact-digest': `sha256:${'0'.repeat(64)}` });
  t.same([damaged.status, damaged.answer.code], [400, 'upload-damaged']);

  for (const headers of ['Content-Length: 100000', 'Transfer-Encoding: chunked']) {
    const before = (world.log().match(/a request failed/g) ?? []).length;
    const socket = connect(Number(new URL(world.url).port), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(`POST /v1/apps/hello/releases HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${ada}\r\n${headers}\r\n\r\n`);
    socket.write(headers.startsWith('T') ? `${good.length.toString(16)}\r\n` : '');
    socket.write(good.subarray(0, good.length / 2));
    await until('the half of the upload lies on the disk', () => readdirSync(world.uploadFolder).some((name) => name.endsWith('.part')));
    socket.destroy();
    await until(`nothing stays of an upload cut half way (${headers})`, () => leftBehind(world).length === 0);
    t.equal((world.log().match(/a request failed/g) ?? []).length, before, 'a cut upload is the client’s fault, not ours');
  }
  t.match(await (await world.ask(ada, '/apps')).json(), { apps: [] }, 'no app came of any of these');

  t.equal((await send(good)).status, 201, 'the good one is taken');
  const bob = await world.token('bob');
  const taken = await send(good, {}, 'hello', bob);
  t.same([taken.status, taken.answer.code], [409, 'name-taken']);
  t.match(taken.answer, { message: /"hello" is taken by another provider/, remedy: /Choose another `app`/ });
  for (const [method, path] of [['GET', ''], ['DELETE', ''], ['GET', '/logs'], ['GET', '/events']] as const) {
    const response = await world.ask(bob, `/apps/hello${path}`, { method });
    t.same([response.status, ((await response.json()) as { code: string }).code], [404, 'app-unknown'], `another’s app cannot be reached: ${method} ${path}`);
  }
  t.match(await (await world.ask(bob, '/apps')).json(), { apps: [] }, 'nor seen');
});

t.test('tokens', async (t) => {
  const world = await startConduit(t);
  const token = await world.token('ada');
  const ask = async (authorization: string | null) => {
    const response = await fetch(`${world.url}/v1/apps`, { headers: authorization === null ? {} : { authorization } });
    return { status: response.status, ...((await response.json()) as { code?: string; message?: string }) };
  };
  t.match(await ask(null), { status: 401, code: 'token-missing', message: 'this needs a token' });
  t.match(await ask('Basic abc'), { status: 401, code: 'token-missing' });
  t.match(await ask('Bearer nonsense'), { status: 401, code: 'token-wrong', message: 'this token is not known here, or it has been revoked' });
  const guessed = `${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`;
  for (let guess = 0; guess < 10; guess += 1) t.match(await ask(`Bearer ${guessed}`), { status: 401, code: 'token-wrong' });
  t.match(await ask(`Bearer ${guessed}`), { status: 429, code: 'too-many-attempts' }, 'guesses at one token are slowed');
  const second = await world.token('ada');
  t.match(await ask(`Bearer ${second}`), { status: 200 }, 'which does not hinder another token');
  t.notMatch(world.log(), new RegExp(`${token}|${second}`), 'no token stands in the log');

  const cli = await world.cli(['list', '--json'], { token: `ep_0123456789abcdef_${'x'.repeat(43)}` });
  t.equal(cli.code, 3);
  t.equal(cli.stdout, '');
  t.match(JSON.parse(cli.stderr), { code: 'token-wrong', message: /not known here/, remedy: /conduit login/ });
});
