import { request } from 'node:http';
import t from 'tap';
import { openInstance, openRawClient, openRig, until } from './rig.ts';

/** One GET on a connection of its own; the status, or the error's code. */
const ask = (port: number, path: string): Promise<string> =>
  new Promise((resolve) => {
    const sent = request({ port, host: '127.0.0.1', path, headers: { host: 'shop.test' }, agent: false }, (response) => {
      let text = '';
      response.on('data', (bytes: Buffer) => (text += bytes.toString()));
      response.on('end', () => resolve(`${response.statusCode} ${text}`));
      response.on('error', (error) => resolve(error.message));
    });
    sent.on('error', (error) => resolve(error.message));
    sent.end();
  });

t.test('without the head, warm apps are served; held requests are held until it is back and hears of them', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (request_, response) => response.end(request_.url));
  await rig.route([shop], { concurrency: 1000 });
  const prober: Promise<string>[] = [];
  const timer = setInterval(() => prober.push(ask(rig.port, `/${prober.length}`)), 5);
  t.teardown(() => clearInterval(timer));
  await until('it runs', () => prober.length > 10);
  rig.head.stop();
  await until('many more are sent', () => prober.length > 60);
  rig.head.demands.splice(0);
  rig.head.start();
  await until('the demand of every app is told again', () => rig.head.lastDemand?.instances[0]?.instance === 'shop-1');
  await rig.route([shop], { concurrency: 1000 });
  clearInterval(timer);
  t.same((await Promise.all(prober)).filter((text, index) => text !== `200 /${index}`), [], `${prober.length} answered, none lost`);

  await rig.head.order('routes', [{ owner: { provider: 'ann', scope: 'main', app: 'shop' }, hosts: ['shop.test'], status: 'ready', reason: '', concurrency: 8, holdMs: 5000, instances: [] }]);
  rig.head.stop();
  const held = [ask(rig.port, '/a'), ask(rig.port, '/b')];
  await new Promise((resolve) => setTimeout(resolve, 100));
  rig.head.demands.splice(0);
  rig.head.start();
  await until('it hears of both', () => rig.head.lastDemand?.waiting === 2);
  await rig.route([shop]);
  t.same(await Promise.all(held), ['200 /a', '200 /b']);
});

t.test('kill -9 of the dispatcher: the listening socket outlives it, and only what was inside it is cut', async (t) => {
  const rig = await openRig(t);
  const shop = await openInstance(t, 'shop-1', (request_, response) => {
    if (request_.url !== '/slow') response.end(request_.url);
  });
  await rig.route([shop], { concurrency: 1000 });
  t.equal(await ask(rig.port, '/before'), '200 /before');
  const inside = openRawClient(t, rig.port);
  inside.send('GET /slow HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await until('one is under way', () => (rig.head.lastDemand?.instances[0]?.outstanding ?? 0) === 1);
  const epoch = rig.head.lastDemand?.epoch;
  const dead = rig.dispatcher();
  const exited = new Promise((resolve) => dead.once('exit', resolve));
  dead.kill('SIGKILL');
  await exited;
  await inside.untilClosed();
  t.equal(inside.text(), '', 'the exchange inside it is cut, not answered wrongly');
  const between = Array.from({ length: 20 }, (_, index) => ask(rig.port, `/${index}`));
  const restartedMs = Date.now();
  await rig.startDispatcher();
  await rig.route([shop], { concurrency: 1000 });
  t.same(await Promise.all(between), Array.from({ length: 20 }, (_, index) => `200 /${index}`), 'connections made while it was dead are answered');
  t.ok(Date.now() - restartedMs < 1000, `new connections are answered ${Date.now() - restartedMs} ms after the restart`);
  await until('the traffic is counted under a new epoch', () => rig.head.lastDemand?.epoch !== epoch);
});

t.test('SIGTERM: what is under way ends, the process exits with 0', async (t) => {
  const rig = await openRig(t);
  let requests = 0;
  const shop = await openInstance(t, 'shop-1', (_, response) => {
    requests += 1;
    setTimeout(() => response.end('late'), 300);
  });
  await rig.route([shop]);
  const idle = openRawClient(t, rig.port);
  const busy = openRawClient(t, rig.port);
  idle.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await idle.until('it is idle now', (text) => text.endsWith('late'));
  busy.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  await until('the second is under way', () => requests === 2);
  const fresh = openRawClient(t, rig.port);
  await until('a third client has connected', () => !fresh.socket.connecting);
  const dispatcher = rig.dispatcher();
  const exited = new Promise<number | null>((resolve) => dispatcher.once('exit', resolve));
  dispatcher.kill('SIGTERM');
  fresh.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  t.match(await busy.untilClosed(), /Connection: close\r\n[^]*late$/);
  await idle.untilClosed();
  t.match(await fresh.untilClosed(), /late$/, 'a connection that has not asked yet may still ask');
  t.equal(await exited, 0);
});

t.test('a burst of thousands of requests while instances come and go: none is lost, none is mixed up', async (t) => {
  const rig = await openRig(t);
  const make = (number: number) =>
    openInstance(t, `shop-${number}`, (request_, response) => {
      let body = '';
      request_.on('data', (bytes: Buffer) => (body += bytes.toString()));
      request_.on('end', () => setTimeout(() => response.end(`${request_.url} ${body}`), Math.random() * 3));
    });
  let number = 0;
  const instances = [await make((number += 1)), await make((number += 1)), await make((number += 1))];
  await rig.route(instances, { concurrency: 8, holdMs: 10_000 });
  let stop = false;
  const churn = (async (): Promise<void> => {
    while (!stop) {
      const leaving = instances[0];
      if (leaving === undefined) return;
      const drained = rig.head.order('drain', { instance: leaving.instance, park: false, timeoutMs: 2000 });
      instances.push(await make((number += 1)));
      await rig.route(instances, { concurrency: 8, holdMs: 10_000 });
      if (((await drained) as { drained: boolean }).drained) {
        instances.shift();
        // Killed before the head can take it from the table, as a crash would be.
        leaving.kill();
        await rig.route(instances, { concurrency: 8, holdMs: 10_000 });
      }
    }
  })();
  const total = 4000;
  const wrong: string[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    const client = openRawClient(t, rig.port);
    while (next < total) {
      const id = (next += 1);
      const from = client.text().length;
      const body = `body-${id}`;
      client.send(`${id % 3 === 0 ? 'POST' : 'PUT'} /${id} HTTP/1.1\r\nHost: shop.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      const expected = `/${id} ${body}`;
      await until(`answer ${id}; have ${client.text().slice(from)}`, () => client.text().endsWith(expected) || client.closed(), 15_000);
      const answer = client.text().slice(from);
      if (!answer.startsWith('HTTP/1.1 200') || !answer.endsWith(`\r\n\r\n${expected}`)) wrong.push(answer);
    }
  };
  await Promise.all(Array.from({ length: 24 }, worker));
  stop = true;
  await churn;
  t.same(wrong.slice(0, 3), [], `${total} requests over ${number} instances: ${wrong.length} lost or mixed`);
  t.ok(number > 5, 'instances really came and went');
});
