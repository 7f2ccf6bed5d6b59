import { get } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import { siteA, siteB, until } from '../host/nats.ts';
import { appFolder, plainManifest, startConduit, startEdgepoint } from './rig.ts';

t.test('the page of apps: sign in, look, live changes, sign out', async (t) => {
  const world = await startConduit(t);
  const edgepoint = await startEdgepoint(t, world.nats, siteA);
  await startEdgepoint(t, world.nats, siteB);
  const token = await world.token('ada');
  const form = (path: string, fields: Record<string, string>, headers: Record<string, string> = {}) =>
    fetch(`${world.url}${path}`, { method: 'POST', body: new URLSearchParams(fields), redirect: 'manual', headers });

  const first = await fetch(world.url);
  t.match(first.headers.get('content-security-policy'), /default-src 'none'.*frame-ancestors 'none'/);
  t.match(first.headers.get('x-content-type-options'), 'nosniff');
  t.match(await first.text(), /<form method="post" action="\/sign-in">/);
  t.equal((await fetch(`${world.url}/live`)).status, 401);

  const wrong = await form('/sign-in', { token: 'nonsense"><script>' });
  t.equal(wrong.status, 401);
  const said = await wrong.text();
  t.match(said, /This token is not known here/);
  t.notMatch(said, /nonsense/, 'what was typed is not shown again');
  t.equal((await form('/sign-in', { token }, { origin: 'http://evil.example' })).status, 403, 'another site’s form is refused');
  t.equal((await form('/sign-in', { token: 'x'.repeat(10_000) })).status, 413);

  const signedIn = await form('/sign-in', { token }, { origin: world.url });
  t.equal(signedIn.status, 303);
  const setCookie = signedIn.headers.get('set-cookie') ?? '';
  t.match(setCookie, /HttpOnly/);
  t.match(setCookie, /SameSite=Strict/);
  t.notMatch(setCookie, new RegExp(token), 'the token itself is not in the cookie');
  const cookie = setCookie.split(';')[0] ?? '';
  const page = async (): Promise<string> => (await fetch(world.url, { headers: { cookie } })).text();
  t.match(await page(), /No app yet/);

  t.equal((await world.cli(['deploy', appFolder(t, plainManifest('hello'))], { token })).code, 0);
  const live = await fetch(`${world.url}/live`, { headers: { cookie } });
  t.equal(live.headers.get('content-type'), 'text/event-stream');
  const reader = live.body?.pipeThrough(new TextDecoderStream()).getReader();
  let seen = '';
  const reading = (async () => {
    for (let next = await reader?.read(); next && !next.done; next = await reader?.read()) seen += next.value;
  })();
  await until('the list comes at once', () => seen.includes('hello.edge.test'));
  await edgepoint.say({ app: 'hello', instances: { warm: 2 }, reason: '<script>alert(1)</script>' });
  await until('a change comes by itself', () => seen.includes('2 warm'));
  t.match(seen, /&lt;script&gt;alert\(1\)/, 'what an app says is shown, not obeyed');
  t.notMatch(`${seen}${await page()}`, /<script>alert/);
  await reader?.cancel();
  await reading;
  t.match(await page(), /2 warm/);

  const bob = (await form('/sign-in', { token: await world.token('bob') })).headers.get('set-cookie')?.split(';')[0] ?? '';
  t.notMatch(await (await fetch(world.url, { headers: { cookie: bob } })).text(), /hello/, 'another provider sees nothing of it');

  t.equal((await form('/sign-out', {}, { cookie })).status, 303);
  t.match(await page(), /action="\/sign-in"/, 'the session has ended, also for who kept the cookie');
});

t.test('health and metrics', async (t) => {
  const world = await startConduit(t);
  const ask = (path: string): Promise<{ status: number; text: string }> =>
    new Promise((resolve, reject) => {
      get({ socketPath: join(world.folder, 'health.sock'), path }, (response) => {
        let text = '';
        response.on('data', (bytes: Buffer) => (text += bytes.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      }).on('error', reject);
    });
  t.match(JSON.parse((await ask('/healthz')).text), { ok: true, bus: true });
  t.equal((await fetch(`${world.url}/nowhere`)).status, 404);
  t.match((await ask('/metrics')).text, /conduit_answers_total\{.*status="404".*\} 1/);
  await world.nats.kill('SIGKILL');
  await until('the bus is told as away, and the conduit as well all the same', async () => {
    const { status, text } = await ask('/healthz');
    return status === 200 && JSON.parse(text).bus === false;
  });
});
