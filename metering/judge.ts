import { usageSubject } from '../kit/wire/subjects.ts';
import type { UsageRecord } from '../kit/wire/usage.ts';
import { counterThatFell, exactTotals, highestTotals, sameTotals } from './totals.ts';
import type { ExactTotals } from './totals.ts';

/** What the ledger knows of one instance of one edgepoint: its highest totals are what is billed. */
export interface KnownInstance {
  readonly provider: string;
  readonly scope: string;
  readonly app: string;
  readonly release: number;
  /** Of the first record that came. Boot times of two boots cannot be compared, so no instance has two. */
  readonly bootId: string;
  /** The highest sequence counted. */
  readonly sequence: number;
  readonly totals: ExactTotals;
  readonly final: boolean;
}

/** What a record may at most claim; above it, it is set aside for a person to look at. */
export interface Limits {
  /** Cores of the largest service offering. */
  readonly coresMax: number;
  /** Memory of the largest service offering. */
  readonly memoryBytesMax: number;
  readonly storageBytesMax: number;
  /** Added to every product, for the kernel counts in ticks and a box is made before its clock starts. */
  readonly marginRatio: number;
  readonly marginSeconds: number;
}

export const defaultLimits: Limits = {
  coresMax: 4,
  memoryBytesMax: 4 * 1024 ** 3,
  storageBytesMax: 1024 ** 4,
  marginRatio: 0.1,
  marginSeconds: 2,
};

export type RefusalCode =
  | 'not-understood'
  | 'bad-name'
  | 'subject-mismatch'
  | 'bad-id'
  | 'id-reused'
  | 'other-owner'
  | 'other-boot'
  | 'counters-went-back'
  | 'time-went-back'
  | 'too-much-cpu'
  | 'too-much-memory'
  | 'too-much-storage'
  | 'too-large';

export type Verdict =
  | { readonly kind: 'count'; readonly instance: KnownInstance }
  /** The same record has been counted before. */
  | { readonly kind: 'repeat' }
  | { readonly kind: 'refuse'; readonly code: RefusalCode; readonly reason: string };

/** Above this SQLite's integers end. */
const largestCounter = 2n ** 63n - 1n;
const largestWireCounter = 2 ** 63;

type Refusal = Extract<Verdict, { kind: 'refuse' }>;

const refuse = (code: RefusalCode, reason: string): Refusal => ({ kind: 'refuse', code, reason });

/** One token of a subject, as the conduit and the operator name things. */
const tokenPattern = /^[A-Za-z0-9_-]{1,64}$/;
/** Printable ASCII: what a database gives back as it was given, so that an id is the same id when it comes again. */
const idPattern = /^[!-~]{1,180}$/;

function nameRefusal({ zone, edgepoint, provider, scope, app, instance, bootId }: UsageRecord): Refusal | undefined {
  const name = [zone, edgepoint, provider, scope, app].find((token) => !tokenPattern.test(token));
  if (name !== undefined) return refuse('bad-name', `${JSON.stringify(name)} is not a name`);
  const id = [instance, bootId].find((text) => !idPattern.test(text));
  return id === undefined ? undefined : refuse('bad-name', `${JSON.stringify(id)} is not the name of an instance or a boot`);
}

/** A record that speaks for another app or edgepoint than the subject its sender may write to. */
function identityRefusal(subject: string, record: UsageRecord): Refusal | undefined {
  const expected = usageSubject(record, record);
  if (subject !== expected) {
    return refuse('subject-mismatch', `it came on ${subject} but speaks of ${expected}`);
  }
  if (record.id !== `${record.instance}/${record.sequence}`) {
    return refuse('bad-id', `its id is ${record.id}, but its instance and sequence make ${record.instance}/${record.sequence}`);
  }
  return undefined;
}

/** A record that claims more than an instance can use in the time since it began. */
function absurdity(record: UsageRecord, limits: Limits): Refusal | undefined {
  const { totals } = record;
  if (record.toBootNs < record.fromBootNs) {
    return refuse('time-went-back', `it ends ${(record.fromBootNs - record.toBootNs) / 1e9} s before it begins`);
  }
  const tooLarge = Object.entries(totals).find(([, value]) => value >= largestWireCounter);
  if (tooLarge) return refuse('too-large', `${tooLarge[0]} is ${tooLarge[1]}, more than a ledger can hold (${largestCounter})`);
  const seconds = (record.toBootNs - record.fromBootNs) / 1e9;
  const allowedSeconds = seconds * (1 + limits.marginRatio) + limits.marginSeconds;
  const claims = [
    { code: 'too-much-cpu', name: 'CPU seconds', claimed: totals.cpuNs / 1e9, allowed: limits.coresMax * allowedSeconds },
    { code: 'too-much-memory', name: 'byte-seconds of memory', claimed: totals.memoryByteSeconds, allowed: limits.memoryBytesMax * allowedSeconds },
    { code: 'too-much-storage', name: 'byte-seconds of storage', claimed: totals.storageByteSeconds, allowed: limits.storageBytesMax * allowedSeconds },
  ] as const;
  const beyond = claims.find(({ claimed, allowed }) => claimed > allowed);
  if (!beyond) return undefined;
  return refuse(beyond.code, `it claims ${beyond.claimed} ${beyond.name} in ${seconds} s; at most ${beyond.allowed} is possible`);
}

/** A record that contradicts what is known of its instance. */
function contradiction(record: UsageRecord, totals: ExactTotals, known: KnownInstance): Refusal | undefined {
  if (record.provider !== known.provider || record.scope !== known.scope || record.app !== known.app) {
    const first = `${known.provider}.${known.scope}.${known.app}`;
    return refuse('other-owner', `the instance belongs to ${first}, this record to ${record.provider}.${record.scope}.${record.app}`);
  }
  if (record.bootId !== known.bootId) {
    return refuse('other-boot', `the instance began in boot ${known.bootId}, this record is from boot ${record.bootId}`);
  }
  const isLater = record.sequence > known.sequence;
  const fell = isLater ? counterThatFell(known.totals, totals) : counterThatFell(totals, known.totals);
  if (!fell) return undefined;
  const [earlier, later] = isLater ? [known.totals[fell], totals[fell]] : [totals[fell], known.totals[fell]];
  const sequences = isLater ? [known.sequence, record.sequence] : [record.sequence, known.sequence];
  return refuse('counters-went-back', `${fell} is ${earlier} at sequence ${sequences[0]} and ${later} at sequence ${sequences[1]}`);
}

/**
 * Whether a record is counted, a repeat, or set aside with a reason. `known` is what the ledger has of its (edgepoint, instance),
 * `sameId` the totals it has stored under the record's id. Nothing here looks at a wall clock: `wallMs` is a label.
 */
export function judge(
  subject: string,
  record: UsageRecord,
  known: KnownInstance | undefined,
  sameId: ExactTotals | undefined,
  limits: Limits,
): Verdict {
  const early = nameRefusal(record) ?? identityRefusal(subject, record) ?? absurdity(record, limits);
  if (early) return early;
  const totals = exactTotals(record.totals);
  if (sameId) {
    if (sameTotals(sameId, totals)) return { kind: 'repeat' };
    return refuse('id-reused', `a record ${record.id} with other totals has been counted before`);
  }
  const refusal = known ? contradiction(record, totals, known) : undefined;
  if (refusal) return refusal;
  return { kind: 'count', instance: counted(record, totals, known) };
}

function counted(record: UsageRecord, totals: ExactTotals, known: KnownInstance | undefined): KnownInstance {
  return {
    provider: record.provider,
    scope: record.scope,
    app: record.app,
    release: Math.max(record.release, known?.release ?? 0),
    bootId: record.bootId,
    sequence: Math.max(record.sequence, known?.sequence ?? 0),
    totals: known ? highestTotals(known.totals, totals) : totals,
    final: record.final || (known?.final ?? false),
  };
}
