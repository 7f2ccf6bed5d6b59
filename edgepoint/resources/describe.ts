import { reasonCharactersMax } from '../../kit/wire/edgepoint-state.ts';
import type { AppState, EdgepointState } from '../../kit/wire/edgepoint-state.ts';
import type { OwnAddress, OwnPort } from '../model/calls.ts';
import { ownPortsOf, sharedPortOf } from '../model/own-address.ts';
import type { AppEntry, EdgepointEntry } from './state.ts';
import { templateAt } from './views.ts';
import { usedBytesOf } from './views.ts';
import { whyAwake } from './why-awake.ts';

export interface EdgepointFacts {
  readonly zone: string;
  readonly edgepoint: string;
  readonly bootId: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly latitude: number;
  readonly longitude: number;
  readonly opens: string;
  readonly sealTo: string;
}

/** The load is published in steps of this, so that the state is not rewritten for each instance of a big edgepoint. */
const loadSteps = 100;

/** What the conduit and the global dispatcher see of this edgepoint, besides its apps. */
export function describeEdgepoint(state: EdgepointEntry, facts: EdgepointFacts): Omit<EdgepointState, 'epoch' | 'complete'> {
  return { ...facts, load: loadOf(state), capacityBytes: state.capacityBytes, accepting: !state.draining };
}

export function loadOf(state: EdgepointEntry): number {
  return Math.round(Math.min(1, usedBytesOf(state) / state.capacityBytes) * loadSteps) / loadSteps;
}

function describeOwn(own: OwnAddress, ports: readonly OwnPort[]): NonNullable<AppState['own']> {
  const { ipv4, ipv6 } = own;
  const described = ports.map((one) => {
    const { protocol, port } = one;
    const ipv4Port = sharedPortOf(own, one);
    return { protocol, port, ...(ipv4Port === null ? {} : { ipv4Port }) };
  });
  return { ipv4, ipv6, ports: described };
}

export function describeApp(app: AppEntry, stored: ReadonlyMap<string, string>, nowBootNs: number): AppState {
  const instances: Record<string, number> = {};
  for (const entry of app.instances.values()) {
    // What has ended is gone for everybody but us, who still clear up behind it.
    if (entry.facts.mode === 'asleep' || entry.facts.mode === 'failed') continue;
    instances[entry.facts.mode] = (instances[entry.facts.mode] ?? 0) + 1;
  }
  if (app.kept !== null && app.instances.size === 0) instances['asleep'] = 1;
  const order = app.serving?.order ?? app.desired;
  const facts = app.serving?.facts;
  const ports = order === null || order === undefined ? [] : ownPortsOf(order.manifest);
  const reason = app.backoff !== null && app.reason === '' && app.backoff.failures > 1 ? app.backoff.reason : app.reason;
  return {
    ...app.owner,
    release: order?.release ?? 0,
    status: app.status,
    wakeBy: facts?.wakeBy ?? 'cold',
    wakeReason: (facts?.wakeReason ?? '').slice(0, reasonCharactersMax),
    reason: (reason === '' ? whyAwake(app, nowBootNs) : reason).slice(0, reasonCharactersMax),
    state: order?.manifest.state ?? 'template',
    instances,
    templateBytes: facts?.templateBytes ?? 0,
    templateAt: templateAt(app, stored),
    ...(app.own === null || ports.length === 0 ? {} : { own: describeOwn(app.own, ports) }),
    coldBootMs: facts?.coldBootMs ?? null,
    restoreMs: facts?.restoreMs ?? null,
  };
}
