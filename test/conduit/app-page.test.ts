import t from 'tap';
import { siteKey } from '../../kit/ids.ts';
import { eventMessage } from '../../kit/wire/event.ts';
import type { AppEvent } from '../../kit/wire/event.ts';
import { eventSubject } from '../../kit/wire/subjects.ts';
import { encodeMessage } from '../../kit/wire/version.ts';
import { siteA, siteB, until } from '../host/nats.ts';
import { appFolder, plainManifest, startConduit, startEdgepoint } from './rig.ts';

t.test('the page of an app: what happened, live, and nothing of others', async (t) => {
  const world = await startConduit(t);
  const edgepoint = await startEdgepoint(t, world.nats, siteA);
  await startEdgepoint(t, world.nats, siteB);
  const signIn = async (provider: string): Promise<{ token: string; cookie: string }> => {
    const token = await world.token(provider);
    const answer = await fetch(`${world.url}/sign-in`, { method: 'POST', body: new URLSearchParams({ token }), redirect: 'manual' });
    return { token, cookie: answer.headers.get('set-cookie')?.split(';')[0] ?? '' };
  };
  const ada = await signIn('ada');
  t.equal((await world.cli(['deploy', appFolder(t, plainManifest('hello'))], { token: ada.token })).code, 0);
  const bus = await world.nats.bus(siteKey(siteA));
  let sequence = 0;
  const happens = (about: Partial<AppEvent>): Promise<void> => {
    const event: AppEvent = { ...siteA, provider: 'ada', scope: 'main', app: 'hello', release: 1, deployId: '', kind: 'wake', stage: '', text: '', code: '', tookMs: null, figures: {}, wallMs: Date.now(), report: null, built: null, ...about };
    return bus.append(eventSubject(siteA, event), encodeMessage(eventMessage, event), `page-${(sequence += 1)}`);
  };
  const get = async (path: string, cookie = ada.cookie): Promise<{ status: number; text: string }> => {
    const answer = await fetch(`${world.url}${path}`, { headers: { cookie }, redirect: 'manual' });
    return { status: answer.status, text: await answer.text() };
  };

  t.match((await get('/')).text, 'href="/apps/hello"');
  await happens({ tookMs: 21.5, figures: { warm: 1 }, text: 'Instance i-1 was restored from its template in 21.5 ms: 1 waiting and none warm.' });
  await happens({ kind: 'fault', code: 'cron-failed', text: '<script>alert(1)</script>' });
  await edgepoint.say({ app: 'hello', instances: { warm: 1 } });
  await until('the state has come', async () => (await get('/')).text.includes('1 warm'));
  const { status, text } = await get('/apps/hello');
  t.equal(status, 200);
  t.match(text, 'The last 10 minutes');
  t.match(text, 'Woken or cloned once: half within 21.5 ms');
  t.match(text, /<svg class="plot"[^]*<rect class="bar"[^]*<circle class="mark wake"[^]*<path class="mark fault"/);
  t.match(text, '&lt;script&gt;alert(1)');
  t.notMatch(text, '<script>alert');
  t.notMatch(text, / style="/, 'the policy of the page forbids it');
  t.match(text, 'Metering does not answer now', 'there is none in this test');
  t.match(text, /In \d{4}-\d\d so far \(UTC\)\. This app: 0\.000000/);
  t.equal((await world.cli(['cap', 'set', '2.5', '--app', 'hello'], { token: ada.token })).code, 0);
  t.match((await get('/apps/hello')).text, 'of a cap of 2.500000');

  const live = await fetch(`${world.url}/apps/hello/live`, { headers: { cookie: ada.cookie } });
  t.equal(live.headers.get('content-type'), 'text/event-stream');
  const reader = live.body?.pipeThrough(new TextDecoderStream()).getReader();
  let seen = '';
  const reading = (async () => {
    for (let next = await reader?.read(); next && !next.done; next = await reader?.read()) seen += next.value;
  })();
  await until('it comes at once', () => seen.includes('Woken or cloned once'));
  await happens({ kind: 'scale', tookMs: 33, figures: { warm: 2 }, text: 'Instance i-2 was restored.' });
  await until('what happens is there by itself', () => seen.includes('Woken or cloned 2 times'));
  t.equal((await world.cli(['delete', 'hello', '--yes'], { token: ada.token })).code, 0);
  await reading;
  t.pass('it ends with the app');

  const bob = await signIn('bob');
  for (const [cookie, label] of [[ada.cookie, 'an app that is gone'], [bob.cookie, 'another provider’s']] as const) t.match(await get('/apps/hello', cookie), { status: 404, text: 'You have no app of this name' }, label);
  t.equal((await get('/apps/..%2f..%2fetc')).status, 404);
  t.equal((await get('/apps/hello', '')).status, 303, 'sign in first');
  t.equal((await get('/apps/hello/live', '')).status, 401);
});
