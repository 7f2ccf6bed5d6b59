import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { writeOwnAnswer } from '../../edgepoint/dispatcher/answers.ts';
import { chooseInstance } from '../../edgepoint/dispatcher/choose-instance.ts';
import type { Candidate } from '../../edgepoint/dispatcher/choose-instance.ts';
import { readListen } from '../../edgepoint/dispatcher/listen.ts';
import { AppState } from '../../edgepoint/dispatcher/fleet.ts';
import { limits } from '../../edgepoint/dispatcher/limits.ts';
import { mayResend } from '../../edgepoint/dispatcher/resend.ts';
import { readResponseHead } from '../../edgepoint/dispatcher/response-head.ts';
import { WaitingRoom } from '../../edgepoint/dispatcher/waiting-room.ts';

t.test('the least busy open instance below the limit is chosen, else the reason says why none', async (t) => {
  const one = (instance: string, outstanding: number, unavailable: '' | 'draining' | 'suspect' = '') => ({ instance, outstanding, unavailable, sinceBootNs: 0, outlierUntilBootNs: 0 });
  const terms = { concurrency: 3, slowStartNs: 0, nowBootNs: 1e12, wanted: null };
  const rows = [
    [[one('a', 1), one('b', 0)], 'b', 'least outstanding'],
    [[one('a', 1), one('b', 1)], 'a', 'least outstanding'],
    [[one('a', 0, 'draining'), one('b', 2)], 'b', 'least outstanding'],
    [[], null, 'no instance is awake'],
    [[one('a', 3), one('b', 4)], null, 'every instance has its 3 requests under way'],
    [[one('a', 3), one('b', 0, 'draining')], null, 'every instance has its 3 requests under way'],
    [[one('a', 0, 'draining'), one('b', 0, 'suspect')], null, 'every instance is about to sleep or could not be reached'],
  ] as const;
  for (const [candidates, chosen, reason] of rows) {
    const choice = chooseInstance<Candidate>(candidates, terms);
    t.same([choice.chosen?.instance ?? null, choice.reason], [chosen, reason]);
  }
  const returns = [
    [[one('a', 0), one('b', 2)], 'b', 'the client returns to it'],
    [[one('a', 0), one('b', 3)], 'a', 'least outstanding'],
    [[one('a', 0), one('b', 0, 'draining')], 'a', 'least outstanding'],
    [[one('a', 1)], 'a', 'least outstanding'],
    [[one('b', 3)], null, 'every instance has its 3 requests under way'],
  ] as const;
  for (const [candidates, chosen, reason] of returns) {
    const choice = chooseInstance<Candidate>(candidates, { ...terms, wanted: ({ instance }) => instance === 'b' });
    t.same([choice.chosen?.instance ?? null, choice.reason], [chosen, reason], 'to b');
  }
});

t.test('apps of which the same is said share it, in whatever order they are told', async (t) => {
  const apps = Array.from({ length: 40 }, (_, number) => {
    const app = new AppState(`p.main.app-${number}`);
    const [owner, hosts] = [app.owner, [`app-${number}.edge.test`]];
    const route = { owner, hosts, reason: '', concurrency: 4, holdMs: 1000, instances: [] };
    if (number % 2 === 0) app.setTerms({ ...route, status: 'preparing' });
    app.setTerms({ ...route, status: 'ready', ...(number % 4 === 3 ? { sticky: true as const } : {}) });
    return app;
  });
  t.equal(new Set(apps.map(({ terms }) => terms)).size, 2);
  t.strictSame(apps.map(({ terms }) => terms?.sticky ?? false), apps.map((_, number) => number % 4 === 3));
  for (let number = 0; number < 40; number += 1) apps[0]?.setTerms({ owner: { provider: 'p', scope: 'main', app: 'app-0' }, hosts: [], status: 'failed', reason: `${number}`, concurrency: 4, holdMs: 1000, instances: [] });
  t.equal(apps[0]?.terms?.reason, '39', 'also beside many of which other things are said');
});

t.test('what may be sent again', async (t) => {
  const attempt = { method: 'GET', sent: true, answered: false, bodyHeld: true, attempts: 1, resends: 0 };
  const rows = [
    [attempt, true],
    [{ ...attempt, method: 'POST' }, false],
    [{ ...attempt, method: 'POST', sent: false }, true],
    [{ ...attempt, method: 'PATCH' }, false],
    [{ ...attempt, method: 'PUT', bodyHeld: false }, false],
    [{ ...attempt, method: 'PUT' }, true],
    [{ ...attempt, method: 'PUT', sent: false, bodyHeld: false }, false],
    [{ ...attempt, answered: true }, false],
    [{ ...attempt, answered: true, sent: false }, false],
    [{ ...attempt, resends: limits.resends }, false],
    [{ ...attempt, sent: false, attempts: limits.attempts }, false],
  ] as const;
  for (const [each, again] of rows) t.equal(mayResend(each).again, again, `${JSON.stringify(each)}: ${mayResend(each).reason}`);
});

t.test('the waiting room is bounded, in order, and as a dumb list would be', async (t) => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('enter'), app: fc.constantFrom('a', 'b', 'c'), who: fc.nat(15) }),
    fc.record({ do: fc.constant('leave'), app: fc.constantFrom('a', 'b', 'c'), who: fc.nat(15) }),
    fc.record({ do: fc.constant('leaveAll'), app: fc.constantFrom('a', 'b', 'c'), who: fc.constant(0) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const room = new WaitingRoom<string>({ perApp: 3, inAll: 5 });
      let list: { app: string; who: string }[] = [];
      for (const each of steps) {
        const who = `${each.app}${each.who}`;
        const there = list.some((one) => one.who === who);
        if (each.do === 'enter' && !there) {
          const fits = list.length < 5 && list.filter(({ app }) => app === each.app).length < 3;
          assert.equal(room.enter(each.app, who) === '', fits);
          if (fits) list.push({ app: each.app, who });
        } else if (each.do === 'leave') {
          assert.equal(room.leave(each.app, who), there);
          list = list.filter((one) => one.who !== who);
        } else if (each.do === 'leaveAll') {
          assert.deepEqual(room.leaveAll(each.app), list.filter(({ app }) => app === each.app).map((one) => one.who));
          list = list.filter(({ app }) => app !== each.app);
        }
        assert.equal(room.size, list.length);
        assert.equal(room.first(each.app), list.find(({ app }) => app === each.app)?.who);
      }
    }),
    { numRuns: 300 },
  );
  t.pass('held for 300 stories');
});

t.test('how answers of applications are framed', async (t) => {
  const read = (text: string, method = 'GET'): string => {
    const result = readResponseHead(Buffer.from(`${text}\r\n\r\n`, 'latin1'), method);
    if (result.kind === 'partial') return 'partial';
    if (result.kind === 'refused') return `refused: ${result.reason}`;
    const { framing, keepAlive } = result.head;
    return `${framing.kind}${framing.kind === 'length' ? ` ${framing.bytes}` : ''}${keepAlive ? '' : ', closes'}`;
  };
  const rows: readonly (readonly [string, string, string?])[] = [
    ['HTTP/1.1 200 OK\r\nContent-Length: 5', 'length 5'],
    ['HTTP/1.1 200 \r\nContent-Length: 0', 'none'],
    ['HTTP/1.1 200\r\nContent-Length: 5\r\nConnection: close', 'length 5, closes'],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked', 'chunked'],
    ['HTTP/1.1 200 OK', 'until-close, closes'],
    ['HTTP/1.0 200 OK\r\nContent-Length: 5', 'length 5, closes'],
    ['HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive', 'length 5'],
    ['HTTP/1.1 204 No Content\r\nContent-Length: 5', 'none'],
    ['HTTP/1.1 304 Not Modified\r\nContent-Length: 5', 'none'],
    ['HTTP/1.1 200 OK\r\nContent-Length: 5', 'none', 'HEAD'],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked', 'none', 'HEAD'],
    ['HTTP/1.1 100 Continue', 'none'],
    ['HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked', 'refused: Transfer-Encoding and'],
    ['HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5', 'refused: Content-Length stands twice'],
    ['HTTP/1.1 200 OK\r\nContent-Length: 5, 5', 'refused: Content-Length of the answer'],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip', 'refused: the answer has a transfer coding'],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked', 'refused: Transfer-Encoding stands twice'],
    ['HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked', 'refused: the answer has Transfer-Encoding in HTTP/1.0'],
    ['HTTP/1.1 200 OK\r\nA : b', 'refused: a field name'],
    ['HTTP/1.1 200 OK\r\nA: b\r\n c', 'refused: a field line is folded'],
    ['HTTP/1.1 200 OK\r\nA: b\0', 'refused: the value of a'],
    ['HTTP/2 200 OK', 'refused: the answer does not begin'],
    ['HTTP/1.1 20 OK', 'refused: the answer does not begin'],
    ['ICY 200 OK', 'refused: the answer does not begin'],
  ];
  for (const [text, expected, method] of rows) t.ok(read(text, method).startsWith(expected), `${JSON.stringify(text)}: ${read(text, method)}`);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => void readResponseHead(Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\n'), bytes, Buffer.from('\r\n\r\n')]), 'GET')));
});

t.test('an answer of our own cannot be bent by the name it repeats', async (t) => {
  const text = writeOwnAnswer({ status: 404, reason: 'x\r\nSet-Cookie: a=b\u{1f600}' }, { keepAlive: true, head: false, minorVersion: 1 }).toString('latin1');
  t.notMatch(text, /\r\nSet-Cookie/);
  t.equal(text.split('\r\n\r\n')[1]?.length, Number(/Content-Length: (\d+)/.exec(text)?.[1]));
});

t.test('listen addresses', async (t) => {
  t.same(readListen('[::1]:80'), { hostname: '::1', port: 80 });
  t.same(readListen('0.0.0.0:0'), { hostname: '0.0.0.0', port: 0 });
  for (const bad of ['80', 'a:99999', '::1:80', '']) t.throws(() => readListen(bad), { code: 'bad-setting' });
});
