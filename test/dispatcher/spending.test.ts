import { request } from 'node:http';
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import t from 'tap';
import { openInstance, openRig, until } from './rig.ts';

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

function ask(port: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ port, host: '127.0.0.1', path: '/', headers: { host: 'shop.test' }, agent: false }, (response) => {
      let body = '';
      response.on('data', (bytes: Buffer) => (body += bytes.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end();
  });
}

t.test('a spending cap is reached in the middle of requests: those under way are answered, held and new ones are told, and it is lifted', async (t) => {
  const rig = await openRig(t);
  const under: ServerResponse[] = [];
  const instance = await openInstance(t, 'i-1', (_request, response) => {
    response.write('begun ');
    under.push(response);
  });
  await rig.route([instance], { concurrency: 2 });
  const answers = [ask(rig.port), ask(rig.port)];
  await until('two are under way', () => under.length === 2);
  const held = ask(rig.port);
  await until('one is held', () => rig.head.lastDemand?.waiting === 1);
  // Of the wall clock, far enough away that a slow machine does not matter.
  const untilWallMs = Date.now() + 86_400_000;
  await rig.route([instance], { status: 'failed', reason: 'its spending cap is reached', stop: { code: 'spending-cap-reached', untilWallMs } });
  for (const answer of [await held, await ask(rig.port)]) {
    t.equal(answer.status, 503);
    t.match(answer.headers, { 'edgepoint-error': 'spending-cap-reached', 'cache-control': 'no-store', 'edgepoint-answer': 'dispatcher' });
    const seconds = Number(answer.headers['retry-after']);
    t.ok(seconds > 80_000 && seconds <= 86_400, `Retry-After: ${seconds}`);
    t.match(answer.body, /reached its spending limit for this month[^]*code: spending-cap-reached\n$/);
  }
  for (const response of under) response.end('ended');
  t.same((await Promise.all(answers)).map(({ status, body }) => `${status} ${body}`), ['200 begun ended', '200 begun ended']);
  await rig.route([], { status: 'failed', reason: 'nobody judges', stop: { code: 'spending-unknown', untilWallMs: null } });
  t.match(await ask(rig.port), { status: 503, headers: { 'edgepoint-error': 'spending-unknown', 'retry-after': '30' } });
  await rig.route([instance]);
  const again = ask(rig.port);
  await until('it is asked again', () => under.length === 3);
  under[2]?.end('x');
  t.equal((await again).status, 200);
});
