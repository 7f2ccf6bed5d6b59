import { nowhere, UserLocations } from '../../global-dispatcher/location.ts';
import { parseAddress, parsePrefix } from '../../global-dispatcher/address.ts';
import { Challenges } from '../../global-dispatcher/challenges.ts';
import type { Prefix } from '../../global-dispatcher/address.ts';
import type { Location } from '../../global-dispatcher/choose.ts';
import type { Knowledge } from '../../global-dispatcher/respond.ts';
import { DispatcherState } from '../../global-dispatcher/state.ts';
import { NameTable } from '../../global-dispatcher/zone.ts';
import type { ZoneIdentity } from '../../global-dispatcher/zone.ts';
import { ownerKey, siteKey } from '../../kit/ids.ts';
import { appStateMessage, edgepointStateMessage } from '../../kit/wire/edgepoint-state.ts';
import type { AppState, EdgepointState } from '../../kit/wire/edgepoint-state.ts';
import { nameEntryMessage } from '../../kit/wire/desired.ts';
import { encodeMessage } from '../../kit/wire/version.ts';

/** Two edgepoints, in Berlin and New York, and users near either. */
export const berlin: Location = { latitude: 52.52, longitude: 13.4 };
export const newYork: Location = { latitude: 40.71, longitude: -74 };

/** An edgepoint and its apps, as they are published entry by entry. */
export interface Whole extends EdgepointState {
  readonly apps: readonly AppState[];
}

export function edgepoint(site: string, ipv4: string, place: Location, more: Partial<Whole> = {}): Whole {
  const [zone = '', name = ''] = site.split('.');
  return {
    zone, edgepoint: name, bootId: 'boot', ipv4, ipv6: `2001:db8::${ipv4.split('.')[3] ?? '0'}`, ...place,
    load: 0.1, capacityBytes: 2 ** 30, accepting: true, epoch: 'e1', complete: true, opens: '', sealTo: '',
    apps: ['shop', 'only'].map((app) => ({
      provider: 'p', scope: 'main', app, release: 1, status: 'ready' as const, wakeBy: 'template' as const, wakeReason: '', reason: '', state: 'template' as const,
      instances: {}, templateBytes: 0, templateAt: '', coldBootMs: null, restoreMs: null,
    })),
    ...more,
  };
}

export const nameText = (app: string, hosts: string[], sites: string[]): string => encodeMessage(nameEntryMessage, { provider: 'p', scope: 'main', app, hosts, sites });
/** What the edgepoint says of itself alone. */
export function selfText(whole: Whole): string {
  const { apps: _, ...self } = whole;
  return encodeMessage(edgepointStateMessage, self);
}

/** All entries by key, the edgepoint's own last. */
export function entriesOf(whole: Whole): [key: string, text: string][] {
  const site = siteKey(whole);
  const apps = whole.apps.map((app): [string, string] => [`${site}.${ownerKey(app)}`, encodeMessage(appStateMessage, { ...app, epoch: whole.epoch })]);
  return [...apps, [site, selfText(whole)]];
}

export function tell(state: DispatcherState, whole: Whole): void {
  for (const [key, text] of entriesOf(whole)) {
    const refused = state.applyState(key, text, 0);
    if (refused !== '') throw new Error(refused);
  }
}

export const identity: ZoneIdentity = {
  apex: 'edge.test',
  nameserver: 'ns1.edge.test',
  hostmaster: 'hostmaster.edge.test',
  nameserverAddresses: ['192.0.2.53', '2001:db8::53'].map((text) => parseAddress(text) ?? new Uint8Array(4)),
  ttlSeconds: 20,
  negativeTtlSeconds: 5,
};

export function rows(table: Record<string, Location>): UserLocations {
  return new UserLocations(Object.entries(table).map(([text, place]): [Prefix, Location] => {
    const prefix = parsePrefix(text);
    if (prefix === null) throw new Error(text);
    return [prefix, place];
  }));
}

/** A dispatcher that knows `shop` in both places, `only` in Berlin, and `deep.a.b`. */
export function makeKnowledge(more: Partial<Knowledge> = {}): { state: DispatcherState; knowledge: Knowledge } {
  const state = new DispatcherState(new NameTable(identity), 7);
  state.applyName('p.main.shop', nameText('shop', ['shop.edge.test'], ['eu.ber', 'us.nyc']), 8);
  state.applyName('p.main.only', nameText('only', ['only.edge.test', 'deep.a.b.edge.test'], ['eu.ber']), 8);
  tell(state, edgepoint('eu.ber', '198.51.100.1', berlin));
  tell(state, edgepoint('us.nyc', '198.51.100.2', newYork));
  state.allTold('names');
  state.allTold('edgepoints');
  const knowledge: Knowledge = {
    identity,
    names: state.names,
    challenges: new Challenges(state.names.apex),
    serial: state.serial,
    complete: true,
    hostingOf: (entry) => state.hostingOf(entry),
    rows: rows({ '10.1.0.0/16': berlin, '10.2.0.0/16': newYork, 'fd00:1::/32': berlin, 'fd00:2::/32': newYork }),
    file: nowhere,
    answersMax: 1,
    ...more,
  };
  return { state, knowledge };
}
