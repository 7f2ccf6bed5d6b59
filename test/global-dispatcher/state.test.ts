import t from 'tap';
import { DispatcherState, dumpMessage } from '../../global-dispatcher/state.ts';
import { NameTable } from '../../global-dispatcher/zone.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import { berlin, edgepoint, identity, makeKnowledge, nameText, selfText } from './fixtures.ts';

const second = 1_000_000_000;

/** As version 2.0 wrote it, with a field that a later minor may add. */
const storedDump = '{"v":"2.3","zoneName":"edge.test","names":[{"provider":"p","scope":"main","app":"shop","hosts":["shop.edge.test"],"sites":["eu.ber"],"later":1}],'
  + '"edgepoints":[{"zone":"eu","edgepoint":"ber","ipv4":"192.0.2.1","ipv6":"","latitude":52.5,"longitude":13.4,"load":0.1,"capacityBytes":1,"accepting":true,"apps":{"p.main.shop":{"status":"ready","reason":""}}}],'
  + '"silent":["eu.ber"],"serial":77,"wallMs":1,"later":{}}';

const fresh = (): DispatcherState => new DispatcherState(new NameTable(identity), 7);
const kindOf = (state: DispatcherState, name: string): string => state.names.lookUp(name).kind;

t.test('a dump is read back as it was, an older one too, and a later major is refused with a reason', async (t) => {
  const { state } = makeKnowledge();
  const parsed = parseMessage(dumpMessage, encodeMessage(dumpMessage, state.dump(5)));
  t.ok(parsed.ok);
  if (!parsed.ok) return;
  const again = fresh();
  again.load(parsed.value, 0, true);
  t.strictSame(again.dump(5), state.dump(5));
  const stored = parseMessage(dumpMessage, storedDump);
  t.ok(stored.ok);
  if (!stored.ok) return;
  const replayed = fresh();
  replayed.load(stored.value, 0, true);
  t.strictSame([kindOf(replayed, 'shop.edge.test'), replayed.livenessOf('eu.ber'), replayed.serial], ['app', 'silent', 77]);
  const started = fresh();
  started.load(stored.value, 0, false);
  t.equal(started.livenessOf('eu.ber'), 'alive', 'at a start everybody has three intervals to be heard');
  started.tick(7 * second, 0);
  t.equal(started.livenessOf('eu.ber'), 'silent');
  t.match(parseMessage(dumpMessage, storedDump.replace('"2.3"', '"3.0"')), { ok: false, reason: /3\.0 is not understood/ });
});

t.test('what only the cache file knew goes when the bus has told all', async (t) => {
  const stored = parseMessage(dumpMessage, storedDump);
  if (!stored.ok) throw new Error(stored.reason);
  const state = fresh();
  state.load(stored.value, 0, false);
  state.applyName('p.main.other', nameText('other', ['other.edge.test'], []), 9);
  t.strictSame([kindOf(state, 'shop.edge.test'), kindOf(state, 'other.edge.test')], ['app', 'app']);
  state.allTold('names');
  state.allTold('edgepoints');
  const untold = fresh();
  untold.allTold('names');
  t.notOk(untold.complete, 'names without their edgepoints are half');
  untold.allTold('edgepoints');
  t.ok(untold.complete);
  t.strictSame([kindOf(state, 'shop.edge.test'), kindOf(state, 'other.edge.test'), state.sites], ['absent', 'app', []]);
});

t.test('an entry that cannot be used is refused with a reason, and the last good one stays', async (t) => {
  const { state } = makeKnowledge();
  t.match(state.applyName('p.main.shop', 'not JSON', 9), /not JSON/);
  t.match(state.applyName('p.main.shop', nameText('other', ['shop.edge.test'], []), 9), /speaks of p\.main\.other/);
  t.match(state.applyState('eu.ber', selfText(edgepoint('us.nyc', '192.0.2.1', berlin)), 0), /speaks of us\.nyc/);
  t.match(state.applyState('eu.ber', '{"v":"1.0"}', 0), /edgepoint-state: version 1\.0 is not understood/);
  t.equal(kindOf(state, 'shop.edge.test'), 'app');
  t.match(state.applyName('p.main.shop', nameText('shop', ['shop.edge.test', 'shop.example.com'], []), 9), /not names below this zone's apex: shop\.example\.com/);
  t.equal(kindOf(state, 'shop.edge.test'), 'app');
});

t.test('heartbeats of strangers leave no trace, and the serial only grows', async (t) => {
  const { state } = makeKnowledge();
  for (let index = 0; index < 1000; index += 1) state.beat(`x.y${index}`, index);
  t.strictSame(state.sites, ['eu.ber', 'us.nyc']);
  t.equal(state.livenessOf('x.y1'), 'silent');
  const before = state.serial;
  state.applyName('p.main.shop', null, 1);
  t.equal(state.serial, before + 1, 'even when the wall clock went back');
});

t.test('a dispatcher that stood still holds nobody silent for beats that it could not read', async (t) => {
  const { state } = makeKnowledge();
  const playTo = (fromSecond: number, toSecond: number): void => {
    for (let at = fromSecond; at <= toSecond; at += 0.5) state.tick(at * second, 0);
  };
  playTo(0, 2);
  playTo(30, 35);
  t.equal(state.livenessOf('eu.ber'), 'alive', 'after 28 s of standing still, three intervals anew');
  playTo(35.5, 37);
  t.equal(state.livenessOf('eu.ber'), 'silent', 'and then the same rule as ever');
});
