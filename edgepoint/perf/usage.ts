import type { Owner, Site } from '../../kit/ids.ts';
import { nsPerSecond } from '../../kit/units.ts';
import type { UsageRecord, UsageTotals } from '../../kit/wire/usage.ts';

/**
 * What one instance has used so far, and all that is needed to go on counting after the head was restarted: it is plain data,
 * stored beside each record (`outbox.ts`). Invariant: no total ever falls.
 */
export interface UsageState {
  readonly instance: string;
  readonly owner: Owner;
  readonly release: number;
  /** What lies at rest (`template-3`, `volume-data`); empty for an instance that runs. */
  readonly item: string;
  readonly bootId: string;
  /** Boot clock when the counting began. */
  readonly startBootNs: number;
  /** Of the last record made from it; 0 when none was. */
  readonly sequence: number;
  readonly totals: UsageTotals;
  /** The last sample of the kernel's counters, from which the next one's area is measured. */
  readonly lastSample: Sample | null;
  /** What has been counted of each dispatcher's totals, newest last; a dispatcher that was replaced begins again at 0. */
  readonly traffic: readonly (Traffic & { readonly epoch: string })[];
  /** Bytes at rest since `storedSinceBootNs`; 0 for an instance that runs. */
  readonly storedBytes: number;
  readonly storedSinceBootNs: number;
}

export interface Sample {
  readonly bootNs: number;
  readonly cpuNs: number;
  readonly memoryBytes: number;
}

/** A dispatcher's totals for one instance since that dispatcher started. */
export interface Traffic {
  readonly requests: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export interface Beginning {
  readonly instance: string;
  readonly owner: Owner;
  readonly release: number;
  readonly item: string;
  readonly bootId: string;
  readonly bootNs: number;
  /** Began by a restore: that is one wake. */
  readonly restored: boolean;
}

/** Dispatchers remembered for one instance: two can be alive at once while one hands over, a dead one never comes back. */
const epochsMax = 4;
const noTraffic: Traffic = { requests: 0, bytesIn: 0, bytesOut: 0 };

export function beginUsage(beginning: Beginning): UsageState {
  return {
    instance: beginning.instance,
    owner: beginning.owner,
    release: beginning.release,
    item: beginning.item,
    bootId: beginning.bootId,
    startBootNs: beginning.bootNs,
    sequence: 0,
    totals: {
      cpuNs: 0,
      memoryByteSeconds: 0,
      bytesIn: 0,
      bytesOut: 0,
      requests: 0,
      wakes: beginning.restored ? 1 : 0,
      storageByteSeconds: 0,
    },
    lastSample: null,
    traffic: [],
    storedBytes: 0,
    storedSinceBootNs: beginning.bootNs,
  };
}

/**
 * CPU is the kernel's own total, so a missed sample loses nothing of it; memory is the area under straight lines between samples
 * (the trapezoid rule). A sample that is not later than the last one adds no area, and a counter that fell raises nothing.
 */
export function addSample(state: UsageState, sample: Sample): UsageState {
  const last = state.lastSample;
  if (last && sample.bootNs < last.bootNs) return state;
  const seconds = last ? (sample.bootNs - last.bootNs) / nsPerSecond : 0;
  const area = last ? ((last.memoryBytes + sample.memoryBytes) / 2) * seconds : 0;
  return {
    ...state,
    totals: {
      ...state.totals,
      cpuNs: Math.max(state.totals.cpuNs, sample.cpuNs),
      memoryByteSeconds: state.totals.memoryByteSeconds + area,
    },
    lastSample: sample,
  };
}

/** Counts what a dispatcher's totals grew by since they were last heard; the same totals again count nothing. */
export function addTraffic(state: UsageState, epoch: string, heard: Traffic): UsageState {
  const counted = state.traffic.find((seen) => seen.epoch === epoch) ?? noTraffic;
  const growth = (name: keyof Traffic): number => Math.max(0, heard[name] - counted[name]);
  const highest = (name: keyof Traffic): number => Math.max(heard[name], counted[name]);
  const others = state.traffic.filter((seen) => seen.epoch !== epoch).slice(1 - epochsMax);
  return {
    ...state,
    totals: {
      ...state.totals,
      requests: state.totals.requests + growth('requests'),
      bytesIn: state.totals.bytesIn + growth('bytesIn'),
      bytesOut: state.totals.bytesOut + growth('bytesOut'),
    },
    traffic: [...others, { epoch, requests: highest('requests'), bytesIn: highest('bytesIn'), bytesOut: highest('bytesOut') }],
  };
}

/** Counts what lay at rest until now, and goes on with `storedBytes`. Sizes change at known moments, so this needs no sampling. */
export function addStorage(state: UsageState, storedBytes: number, nowBootNs: number): UsageState {
  const seconds = Math.max(0, nowBootNs - state.storedSinceBootNs) / nsPerSecond;
  return {
    ...state,
    totals: { ...state.totals, storageByteSeconds: state.totals.storageByteSeconds + state.storedBytes * seconds },
    storedBytes,
    storedSinceBootNs: Math.max(nowBootNs, state.storedSinceBootNs),
  };
}

export interface RecordMoment {
  readonly site: Site;
  readonly bootNs: number;
  /** A label, never a duration. */
  readonly wallMs: number;
  readonly final: boolean;
}

/** The next record of an instance, in whole nanoseconds and bytes, and the state that remembers it was made. */
export function makeRecord(state: UsageState, moment: RecordMoment): { readonly state: UsageState; readonly record: UsageRecord } {
  const sequence = state.sequence + 1;
  const { totals } = state;
  const record: UsageRecord = {
    id: `${state.instance}/${sequence}`,
    zone: moment.site.zone,
    edgepoint: moment.site.edgepoint,
    provider: state.owner.provider,
    scope: state.owner.scope,
    app: state.owner.app,
    release: state.release,
    instance: state.instance,
    sequence,
    bootId: state.bootId,
    fromBootNs: state.startBootNs,
    toBootNs: Math.max(moment.bootNs, state.startBootNs),
    wallMs: moment.wallMs,
    final: moment.final,
    totals: {
      ...totals,
      cpuNs: Math.floor(totals.cpuNs),
      memoryByteSeconds: Math.floor(totals.memoryByteSeconds),
      storageByteSeconds: Math.floor(totals.storageByteSeconds),
    },
  };
  return { state: { ...state, sequence }, record };
}

/** Whether a record can be left out: it goes on, and nothing has been used yet. Whatever follows carries all totals since the beginning. */
export function saysNothing({ final, totals }: UsageRecord): boolean {
  return !final && Object.values(totals).every((total) => total === 0);
}
