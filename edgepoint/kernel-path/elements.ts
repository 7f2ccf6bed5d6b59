import type { OwnPort, OwnRoute, Route } from '../model/calls.ts';
import { addressNumber, instanceIpv6 } from '../model/instance-address.ts';
import { sharedPortOf } from '../model/own-address.ts';
import { heldMark, slots, tableName } from './table.ts';
import type { ChangingSet } from './table.ts';

/** An app with an address of its own, as its elements depend on it. */
export interface OwnApp {
  readonly route: Route;
  /** 1 to `appNumberMax`; names it on packets that are held. */
  readonly number: number;
  /** Instances that are given nothing new. */
  readonly draining: ReadonlySet<string>;
}

/** One element of a map or set; `value` empty in a set. */
export interface Element {
  readonly set: ChangingSet;
  readonly key: string;
  readonly value: string;
}

/** By set and key, so that two states can be compared. */
export type Elements = ReadonlyMap<string, Element>;

export const protocols = ['tcp', 'udp'] as const;

/** Where end users reach a port by this family, as the key of a map. */
function outsideOf(own: OwnRoute, port: OwnPort, family: '4' | '6'): { key: string; targetPort: number }[] {
  const address = family === '4' ? own.ipv4 : own.ipv6;
  if (address !== '') return [{ key: `${address} . ${port.protocol} . ${port.port}`, targetPort: port.targetPort }];
  const shared = family === '4' ? sharedPortOf(own, port) : null;
  return shared === null ? [] : [{ key: `${own.shared?.ipv4 ?? ''} . ${port.protocol} . ${shared}`, targetPort: port.targetPort }];
}

/** Everything that must stand in the table for an app. */
export function elementsOf(app: OwnApp): Elements {
  const elements = new Map<string, Element>();
  const add = (set: ChangingSet, key: string, value = ''): void => void elements.set(`${set} ${key}`, { set, key, value });
  const { own, instances, status } = app.route;
  if (own === undefined) return elements;
  // Of one that is stopped only the flows there are go on.
  const takers = app.route.stop === undefined ? instances.filter(({ instance }) => !app.draining.has(instance)).slice(0, slots) : [];
  for (const family of ['4', '6'] as const) {
    const ends = own.ports.flatMap((port) => outsideOf(own, port, family));
    if (ends.length === 0) continue;
    const inside = (one: string): string => (family === '4' ? one : instanceIpv6(one));
    for (const { key, targetPort } of ends) {
      const [sole] = takers;
      if (takers.length === 1 && sole !== undefined) add(`one${family}`, key, `${inside(sole.address)} . ${targetPort}`);
      else if (takers.length > 1) {
        for (let slot = 0; slot < slots; slot += 1) add(`many${family}`, `${key} . ${slot}`, `${inside(takers[slot % takers.length]?.address ?? '')} . ${targetPort}`);
      }
      if (status !== 'failed') add(`held${family}`, key, `${heldMark + app.number}`);
    }
    for (const { address: one } of instances) {
      add(`mark${family}`, inside(one), `${addressNumber(one)}`);
      for (const protocol of protocols) {
        add(`in${family}`, `${inside(one)} . ${protocol}`);
        add(`out${family}`, `${inside(one)} . ${protocol}`);
      }
    }
  }
  return elements;
}

/** What brings the table from one state to another, for nft(8), in one transaction; empty when nothing differs. */
export function changeText(before: Elements, after: Elements): string {
  const gone = [...before].flatMap(([name, element]) => (after.get(name)?.value === element.value ? [] : [element]));
  const come = [...after].flatMap(([name, element]) => (before.get(name)?.value === element.value ? [] : [element]));
  return [...linesOf('delete', gone), ...linesOf('add', come)].join('\n');
}

function linesOf(verb: 'add' | 'delete', elements: readonly Element[]): string[] {
  const bySet = new Map<ChangingSet, Element[]>();
  for (const element of elements) bySet.set(element.set, [...(bySet.get(element.set) ?? []), element]);
  const text = ({ key, value }: Element): string => (value === '' || verb === 'delete' ? key : `${key} : ${value}`);
  return [...bySet].map(([set, of]) => `${verb} element inet ${tableName} ${set} { ${of.map(text).join(', ')} }`);
}
