import fc from 'fast-check';
import t from 'tap';
import { chooseEdgepoints, fitnesses, greatCircleKm, loadPenaltyKm } from '../../global-dispatcher/choose.ts';
import type { ChooseRequest, Hosting } from '../../global-dispatcher/choose.ts';
import { berlin, edgepoint, newYork } from './fixtures.ts';
import type { Whole } from './fixtures.ts';

const ber = edgepoint('eu.ber', '198.51.100.1', berlin);
const nyc = edgepoint('us.nyc', '198.51.100.2', newYork);
const host = (state: Whole, more: Partial<Hosting> = {}): Hosting => ({ site: `${state.zone}.${state.edgepoint}`, state, app: state.apps[0] ?? null, liveness: 'alive', ...more });
const ask = (hosting: Hosting[], more: Partial<ChooseRequest> = {}): ReturnType<typeof chooseEdgepoints> =>
  chooseEdgepoints({ family: 4, location: berlin, spreadKey: 'user', hosting, ...more });
const withStatus = (state: Whole, status: 'preparing' | 'failed'): Whole => ({ ...state, apps: state.apps.map((app) => ({ ...app, status, reason: 'it exits' })) });

t.test('the table of choices for a user in Berlin', async (t) => {
  const cases: { says: string; hosting: Hosting[]; sites: string[]; reason?: RegExp; more?: Partial<ChooseRequest> }[] = [
    { says: 'the near one first', hosting: [host(nyc), host(ber)], sites: ['eu.ber', 'us.nyc'], reason: /alive and ready; 0 km away/ },
    { says: 'the far one when the near one is silent', hosting: [host(ber, { liveness: 'silent' }), host(nyc)], sites: ['us.nyc'] },
    { says: 'the far one when the near one drains', hosting: [host({ ...ber, accepting: false }), host(nyc)], sites: ['us.nyc'] },
    { says: 'the far one when the app failed near', hosting: [host(withStatus(ber, 'failed')), host(nyc)], sites: ['us.nyc'] },
    { says: 'the far one while the app is prepared near', hosting: [host(withStatus(ber, 'preparing')), host(nyc)], sites: ['us.nyc'] },
    { says: 'the far one while the near one has not heard of the app', hosting: [host({ ...ber, apps: [] }), host(nyc)], sites: ['us.nyc'] },
    { says: 'a full near one costs kilometres, but not an ocean of them', hosting: [host({ ...ber, load: 1 }), host(nyc)], sites: ['eu.ber', 'us.nyc'], reason: /load 1.00 counts as 4000 km more/ },
    { says: 'all silent: still those that host it', hosting: [host(ber, { liveness: 'silent' }), host(nyc, { liveness: 'silent' })], sites: ['eu.ber', 'us.nyc'], reason: /heartbeats are missing/ },
    { says: 'preparing before silent', hosting: [host(ber, { liveness: 'silent' }), host(withStatus(nyc, 'preparing'))], sites: ['us.nyc'] },
    { says: 'failed only when nothing else is left', hosting: [host(withStatus(ber, 'failed'))], sites: ['eu.ber'], reason: /failed there \(it exits\)/ },
    { says: 'one that never reported has no address', hosting: [{ site: 'x.y', state: null, app: null, liveness: 'silent' }], sites: [] },
    { says: 'nobody hosts it', hosting: [], sites: [] },
    { says: 'no address of the family', hosting: [host({ ...ber, ipv6: '' }), host(nyc)], sites: ['us.nyc'], more: { family: 6 } },
  ];
  for (const { says, hosting, sites, reason, more } of cases) {
    const choice = ask(hosting, more);
    t.strictSame(choice.ordered.map(({ site }) => site), sites, says);
    if (reason !== undefined) t.match(choice.ordered[0]?.reason, reason, says);
    t.strictSame([...choice.ordered.map(({ site }) => site), ...choice.passedOver.map(({ site }) => site)].sort(), hosting.map(({ site }) => site).sort(), `${says}: each is named once`);
  }
});

t.test('an app is found by its own address there, and by the shared one where it has none of the family', async (t) => {
  const own = (ipv4: string, ipv6: string): Hosting => host({ ...ber, ipv6: '2001:db8::1' }, { app: { status: 'ready', reason: '', own: { ipv4, ipv6, ports: [{ protocol: 'udp', port: 53 }] } } });
  const address = (hosting: Hosting, family: 4 | 6): string | undefined => ask([hosting], { family }).ordered[0]?.address;
  t.equal(address(own('192.0.2.17', '2001:db8:1::5'), 4), '192.0.2.17');
  t.equal(address(own('192.0.2.17', '2001:db8:1::5'), 6), '2001:db8:1::5');
  t.equal(address(own('', '2001:db8:1::5'), 4), '198.51.100.1');
  t.equal(address(own('192.0.2.17', ''), 6), '2001:db8::1');
});

t.test('the load moves users when two are about as near', async (t) => {
  const potsdam = edgepoint('eu.pot', '198.51.100.3', { latitude: 52.4, longitude: 13.06 });
  t.equal(ask([host(ber), host(potsdam)]).ordered[0]?.site, 'eu.ber');
  t.equal(ask([host({ ...ber, load: 0.7 }), host(potsdam)]).ordered[0]?.site, 'eu.pot');
  t.equal(loadPenaltyKm(0.6, { freeLoad: 0.6, fullLoadKm: 4000 }), 0);
  t.equal(loadPenaltyKm(9, { freeLoad: 0.6, fullLoadKm: 4000 }), 4000, 'a load out of range is bounded');
});

t.test('distances agree with known ones', async (t) => {
  const within = (km: number, known: number): boolean => Math.abs(km - known) < known * 0.01;
  t.ok(within(greatCircleKm(berlin, newYork), 6385));
  t.ok(within(greatCircleKm({ latitude: -33.87, longitude: 151.21 }, { latitude: -34.6, longitude: -58.38 }), 11_800), 'Sydney to Buenos Aires, across the date line');
  t.equal(greatCircleKm(berlin, berlin), 0);
  t.ok(within(greatCircleKm({ latitude: 0, longitude: 179.9 }, { latitude: 0, longitude: -179.9 }), 22.24));
});

t.test('users of an unknown place are spread by capacity, keep their edgepoint, and only a lost one\'s users move', async (t) => {
  const sites = [host(ber), host(nyc), host(edgepoint('ap.syd', '198.51.100.3', { latitude: -33, longitude: 151 }, { capacityBytes: 2 ** 31 }))];
  const pick = (key: string, hosting: Hosting[]): string => ask(hosting, { location: null, spreadKey: key }).ordered[0]?.site ?? '';
  const keys = Array.from({ length: 4000 }, (_, index) => `198.18.${index >> 8}.${index & 255} p.main.shop`);
  const counts = new Map<string, number>();
  for (const key of keys) counts.set(pick(key, sites), (counts.get(pick(key, sites)) ?? 0) + 1);
  t.ok(Math.abs((counts.get('ap.syd') ?? 0) - 2000) < 200, `twice the capacity, twice the users: ${JSON.stringify([...counts])}`);
  t.ok(Math.abs((counts.get('eu.ber') ?? 0) - 1000) < 150);
  const without = sites.slice(1);
  const moved = keys.filter((key) => pick(key, sites) !== pick(key, without));
  t.equal(moved.length, counts.get('eu.ber'), 'exactly the users of the lost one');
});

t.test('whatever is told, everybody with an address is answered or named with a reason, and the order of the input does not matter', async () => {
  const hosting = fc.uniqueArray(
    fc.record({
      site: fc.integer({ min: 0, max: 30 }).map((number) => `z.e${number}`),
      liveness: fc.constantFrom('alive' as const, 'silent' as const),
      state: fc.option(
        fc.record({
          latitude: fc.double({ min: -90, max: 90, noNaN: true }), longitude: fc.double({ min: -180, max: 180, noNaN: true }), load: fc.double({ min: -1, max: 3, noNaN: true }),
          accepting: fc.boolean(), ipv4: fc.constantFrom('', '192.0.2.9'), capacityBytes: fc.nat(),
        }).map((more) => ({ ...ber, ...more })),
      ),
      app: fc.option(fc.record({ status: fc.constantFrom('ready' as const, 'preparing' as const, 'failed' as const), reason: fc.constantFrom('', 'it exits') })),
    }),
    { selector: ({ site }) => site, maxLength: 8 },
  );
  fc.assert(fc.property(hosting, fc.boolean(), (list, known) => {
    const more = { location: known ? berlin : null };
    const choice = ask(list, more);
    const again = ask([...list].reverse(), more);
    const ranks = choice.ordered.map(({ fitness }) => fitnesses.indexOf(fitness));
    const withAddress = list.some(({ state }) => state !== null && state.ipv4 !== '');
    return JSON.stringify(choice.ordered) === JSON.stringify(again.ordered) && new Set(ranks).size <= 1 && (choice.ordered.length > 0) === withAddress
      && choice.ordered.length + choice.passedOver.length === list.length && choice.passedOver.every(({ reason }) => reason !== '') && choice.ordered.every(({ cost }) => cost >= 0);
  }), { seed: Date.now() & 0x7fffffff, numRuns: 1000 });
});
