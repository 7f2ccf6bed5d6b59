import fc from 'fast-check';
import { createHmac } from 'node:crypto';
import t from 'tap';
import { monthEndWallMs, monthOf } from '../../kit/wire/spending.ts';
import { alertPercents, decideSpending } from '../../conduit/spending/decide.ts';
import { isDue, isPublic, readWebhookUrl, secretText, signedRequest, waitAfter, waitMsMax } from '../../conduit/spending/webhook.ts';
import { readAmount } from '../../conduit/cli/caps.ts';

const nowWallMs = Date.UTC(2026, 10, 29, 12);
const month = '2026-11';
const view = (caps: { app: string; micros: number }[], spent: Record<string, number | [string, number]>) => ({
  nowWallMs,
  caps,
  apps: ['blog', 'shop'],
  spent: new Map(Object.entries(spent).map(([app, said]) => [app, typeof said === 'number' ? { month, micros: said } : { month: said[0], micros: said[1] }])),
});

t.test('caps, as a table', async (t) => {
  const rows: [string, Parameters<typeof decideSpending>[0], string[], string[]][] = [
    ['no cap stops nothing', view([], { shop: 1e12 }), [], []],
    ['below half nothing is said', view([{ app: 'shop', micros: 100 }], { shop: 49 }), [], []],
    ['half', view([{ app: 'shop', micros: 100 }], { shop: 50 }), [], ['shop 50']],
    ['four fifths', view([{ app: 'shop', micros: 100 }], { shop: 99 }), [], ['shop 50', 'shop 80']],
    ['all', view([{ app: 'shop', micros: 100 }], { shop: 100 }), ['shop'], ['shop 50', 'shop 80', 'shop 100']],
    ['an amount that 0.8 cannot be taken of exactly', view([{ app: 'shop', micros: 3 }], { shop: 2 }), [], ['shop 50']],
    ['all apps together', view([{ app: '', micros: 100 }], { shop: 60, blog: 40 }), ['blog', 'shop'], [' 50', ' 80', ' 100']],
    ['what a deleted app cost counts', view([{ app: '', micros: 100 }], { gone: 100 }), ['blog', 'shop'], [' 50', ' 80', ' 100']],
    ['one app’s cap is no other’s', view([{ app: 'shop', micros: 100 }], { shop: 1, blog: 500 }), [], []],
    ['the month before counts no more', view([{ app: 'shop', micros: 100 }], { shop: ['2026-10', 500] }), [], []],
    ['what a clock before ours says is of a later month counts', view([{ app: 'shop', micros: 100 }], { shop: ['2026-12', 500] }), ['shop'], ['shop 50', 'shop 80', 'shop 100']],
  ];
  for (const [name, given, stopped, reached] of rows) {
    const decision = decideSpending(given);
    t.strictSame([...decision.stopped.keys()].toSorted(), stopped, name);
    t.strictSame(decision.reached.map(({ app, percent }) => `${app} ${percent}`), reached, name);
    for (const stop of decision.stopped.values()) t.equal(stop.untilWallMs, Date.UTC(2026, 11, 1));
  }
});

t.test('what grows by bounded steps never passes its cap by more than one step, and each alert comes once and before the next', async (t) => {
  const story = fc.record({
    cap: fc.integer({ min: 1, max: 5_000_000 }),
    all: fc.boolean(),
    stepMax: fc.integer({ min: 1, max: 900_000 }),
    // Parts of the greatest step, by app.
    steps: fc.array(fc.tuple(fc.constantFrom('shop', 'blog'), fc.integer({ min: 0, max: 100 })), { maxLength: 80 }),
    hours: fc.integer({ min: 0, max: 40 * 24 }),
  });
  fc.assert(
    fc.property(story, ({ cap, all, stepMax, steps, hours }) => {
      const caps = [{ app: all ? '' : 'shop', micros: cap }];
      const spent = new Map<string, { month: string; micros: number }>();
      const alerts: string[] = [];
      const stopped = new Set<string>();
      steps.forEach(([app, part], index) => {
        const wallMs = nowWallMs + (index * hours * 3_600_000) / 80;
        const now = monthOf(wallMs);
        const before = spent.get(app);
        // An app that is stopped spends nothing from the next look on.
        if (!stopped.has(app)) spent.set(app, { month: now, micros: (before?.month === now ? before.micros : 0) + Math.floor((stepMax * part) / 100) });
        const decision = decideSpending({ nowWallMs: wallMs, caps, spent, apps: ['blog', 'shop'] });
        for (const { percent, month: of } of decision.reached) if (!alerts.includes(`${of} ${percent}`)) alerts.push(`${of} ${percent}`);
        stopped.clear();
        for (const name of decision.stopped.keys()) stopped.add(name);
        const capped = [...spent].filter(([name, one]) => one.month === now && (all || name === 'shop')).reduce((sum, [, one]) => sum + one.micros, 0);
        if (capped >= cap + stepMax) throw new Error(`${capped} of ${cap}, by steps of ${stepMax}`);
        if ((capped >= cap) !== (all ? stopped.size === 2 : stopped.has('shop'))) throw new Error(`${capped} of ${cap}: stopped ${[...stopped].join()}`);
      });
      const ofMonth = (name: string): number[] => alerts.filter((alert) => alert.startsWith(name)).map((alert) => Number(alert.split(' ')[1]));
      for (const name of new Set(alerts.map((alert) => alert.slice(0, 7)))) t.strictSame(ofMonth(name), alertPercents.slice(0, ofMonth(name).length));
    }),
    { numRuns: 300 },
  );
  t.equal(monthEndWallMs(month), Date.UTC(2026, 11, 1));
});

t.test('addresses that a webhook may lead to', async (t) => {
  for (const address of ['8.8.8.8', '1.1.1.1', '2a00:1450:4001::1', '172.32.0.1', '192.167.0.1']) t.equal(isPublic(address), true, address);
  const not = [
    '127.0.0.1', '127.9.9.9', '0.0.0.0', '10.1.2.3', '172.16.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254', '100.64.0.1', '224.0.0.1', '255.255.255.255',
    '::1', '::', '::ffff:127.0.0.1', '::ffff:8.8.8.8', '64:ff9b::7f00:1', 'fe80::1', 'fd00::1', 'fc00::1', 'ff02::1', '2002:7f00:1::', '2001:0:7f00:1::', '2001:db8::1', 'localhost', '',
  ];
  for (const address of not) t.equal(isPublic(address), false, address);
  for (const url of ['http://127.0.0.1/', 'http://2130706433/', 'http://0x7f.1/', 'http://[::1]/', 'http://[::ffff:10.0.0.1]/', 'https://10.0.0.1:8443/x', 'ftp://example.com/', 'file:///etc/passwd', 'https://u:p@example.com/', 'nonsense', '']) {
    t.throws(() => readWebhookUrl(url, false), { code: 'webhook-url' }, url);
  }
  t.equal(readWebhookUrl('https://hooks.example.com/a?b=1', false).href, 'https://hooks.example.com/a?b=1');
  t.equal(readWebhookUrl('http://127.0.0.1:99/x', true).port, '99');
});

t.test('signatures are those of Standard Webhooks', async (t) => {
  const secret = secretText(Buffer.from('0123456789abcdef0123456789abcdef'));
  t.equal(secret, 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=');
  const { headers } = signedRequest({ id: 'alert-1', body: '{"a":1}', secret, nowWallMs: 1_700_000_000_999 });
  const expected = createHmac('sha256', '0123456789abcdef0123456789abcdef').update('alert-1.1700000000.{"a":1}').digest('base64');
  t.match(headers, { 'webhook-id': 'alert-1', 'webhook-timestamp': '1700000000', 'webhook-signature': `v1,${expected}` });
});

t.test('attempts come to an end, and a clock that was set back delays none', async (t) => {
  const waits = Array.from({ length: 12 }, (_, index) => waitAfter(index + 1));
  t.equal(waits.at(-1), null);
  t.ok(waits.slice(0, -1).every((wait, index) => wait !== null && wait >= (waits[index - 1] ?? 0) && wait <= waitMsMax));
  t.equal(isDue(100, 99), false);
  t.equal(isDue(100, 100), true);
  t.equal(isDue(100 + waitMsMax, 99), true);
});

t.test('amounts are read without a double in between', async (t) => {
  t.equal(readAmount('2.50'), 2_500_000);
  t.equal(readAmount('0.000001'), 1);
  t.equal(readAmount('999999999.999999'), 999_999_999_999_999);
  for (const text of ['0', '0.0', '', '-1', '1e3', '1,5', '.5', '1.', '1.1234567', '1234567890']) t.throws(() => readAmount(text), { code: 'command-line' }, text);
});
