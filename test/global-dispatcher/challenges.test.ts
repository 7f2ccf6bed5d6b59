import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { Challenges } from '../../global-dispatcher/challenges.ts';
import { dnsChallengeMessage } from '../../kit/wire/certificates.ts';
import { encodeMessage } from '../../kit/wire/version.ts';
import { startNats, until } from '../host/nats.ts';
import { nameText } from './fixtures.ts';
import { startDispatcher, untilAnswering } from './start.ts';

const run = promisify(execFile);
const name = '_acme-challenge.edge.test';
const value = (letter: string): string => letter.repeat(43);
const text = (of: string, letter: string): string => encodeMessage(dnsChallengeMessage, { name: of, value: value(letter) });

t.test('proofs appear in DNS, over UDP and TCP, and are gone afterwards', async (t) => {
  const nats = await startNats(t);
  const dispatcher = startDispatcher(t, { natsUrl: nats.url }, nats.user('global-dispatcher').seed);
  await untilAnswering(dispatcher);
  const certifier = await nats.bus('certificates');
  await (await nats.bus('conduit')).putKv('names', 'p.main.shop', nameText('shop', ['shop.edge.test'], ['north.one']));
  const kdig = async (...words: string[]): Promise<string> => (await run('kdig', [`@${dispatcher.host}`, '-p', '53', '+time=2', '+retry=0', ...words])).stdout;
  const values = async (...more: string[]): Promise<string[]> => (await kdig(name, 'TXT', '+short', ...more)).split('\n').filter((line) => line !== '').sort();
  t.match(await kdig(name, 'TXT'), 'NXDOMAIN');
  await certifier.putKv('challenges', 'dns.0', text(name, 'a'));
  await certifier.putKv('challenges', 'dns.1', text(name, 'b'));
  await until('both are answered', async () => (await values()).length === 2);
  t.same(await values('+tcp'), [`"${value('a')}"`, `"${value('b')}"`]);
  t.match(await kdig(name, 'TXT'), /Flags: qr aa/, 'with authority');
  t.match(await kdig(name.toUpperCase(), 'TXT', '+short'), value('a'));
  t.match(await kdig(name, 'A'), /NOERROR.*ANSWER: 0/s, 'the name exists, and has nothing else');
  for (const other of ['shop.edge.test', '_acme-challenge.shop.edge.test', 'edge.test', '_acme-challenge.other.test', 'edge.test.']) await certifier.putKv('challenges', 'dns.2', text(other, 'c'));
  await certifier.putKv('challenges', 'dns.3', 'nonsense');
  await certifier.deleteKv('challenges', 'dns.0');
  await until('one is gone', async () => (await values()).length === 1);
  t.notMatch(await kdig('shop.edge.test', 'TXT'), value('c'), 'no other name can be set');
  await certifier.deleteKv('challenges', 'dns.1');
  await until('all are gone', async () => (await kdig(name, 'TXT')).includes('NXDOMAIN'));
});

t.test('as many as may be are kept, the newest of each key, and no other name', async (t) => {
  const step = fc.record({ key: fc.integer({ min: 0, max: 30 }), letter: fc.option(fc.constantFrom('a', 'b', 'c')), of: fc.constantFrom(name, 'edge.test') });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const challenges = new Challenges('edge.test');
      const expected = new Map<number, string>();
      for (const { key, letter, of } of steps) {
        challenges.apply(`dns.${key}`, letter === null ? null : text(of, letter));
        expected.delete(key);
        if (letter !== null && of === name && expected.size < 16) expected.set(key, value(letter));
      }
      t.same([...challenges.lookUp(name)].sort(), [...new Set(expected.values())].sort());
      t.same(challenges.lookUp('edge.test'), []);
    }),
    { numRuns: 100 },
  );
});
