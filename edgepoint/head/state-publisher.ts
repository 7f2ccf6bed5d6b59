import { Failure } from '../../kit/errors.ts';
import { fingerprint } from '../../kit/fingerprint.ts';

/** Changes within this time are published together. */
const coalesceMs = 100;
const retryMs = 1000;
/** Puts on their way at once. */
const underWayMax = 64;
/** No fingerprint. */
const maybe = -1;

export interface StatePublisherPorts {
  /** The keys of all apps there are. */
  apps(): Iterable<string>;
  /** The entry of an app; null when there is no such app. */
  describeApp(app: string, epoch: string): string | null;
  /** What the edgepoint says of itself. */
  describeSelf(epoch: string, complete: boolean): string;
  /** Puts an app's entry, or (null) the edgepoint's own; `text` null deletes it. Resolves to its place in the order of all that is put. */
  put(app: string | null, text: string | null): Promise<number>;
  /** The place of what stands there now, a deletion too; null when nothing does. */
  placeOf(app: string | null): Promise<number | null>;
  newEpoch(): string;
  /** Calls back once, that much later; the returned function forgets it. */
  wakeIn(ms: number, callback: () => void): () => void;
  onFault(failure: unknown): void;
}

export interface StatePublisher {
  /** All that was known of before is there: from now on it is published. */
  begin(): void;
  /** An app may have changed, come or gone; null when only what the edgepoint says of itself has. */
  changed(app: string | null): void;
  /** The bus came (back). */
  wake(): void;
  /** Publishes what is not published yet. */
  stop(): Promise<void>;
}

/**
 * Puts what the edgepoint and its apps are where others read it, an entry for each: work and bytes go with what has changed.
 *
 * An epoch begins when the head does, and when the bus has lost what was put last (so it may have lost anything). It puts all
 * there is; only when all of it stands is the epoch told as complete, and what an earlier one had put beside it is of no account any more.
 * An entry is never put twice at once, so the order on the bus is the order here.
 */
export function openStatePublisher(ports: StatePublisherPorts): StatePublisher {
  let epoch = '';
  let complete = false;
  /** Fingerprints of what stands on the bus in this epoch; `maybe` while that is not certain. */
  const told = new Map<string, number>();
  let toldSelf = '';
  let dirty = new Set<string>();
  let last: { readonly app: string | null; readonly place: number } | null = null;
  let begun = false;
  /** The bus was away: what stands there is to be looked at first. */
  let unsure = false;
  let forgetTimer: (() => void) | null = null;
  let publishing: Promise<void> | null = null;
  let stopped = false;

  const put = async (app: string | null, text: string | null): Promise<void> => {
    const place = await ports.put(app, text);
    // Who knows on which side of it this was stored: it is looked at what stands there, and put again.
    if (unsure) throw new Failure('bus-away', 'the bus was away meanwhile');
    if (last === null || place > last.place) last = { app, place };
  };
  const putSelf = async (): Promise<void> => {
    const text = ports.describeSelf(epoch, complete);
    if (text === toldSelf) return;
    toldSelf = '';
    await put(null, text);
    toldSelf = text;
  };
  const putApp = async (app: string): Promise<void> => {
    const text = ports.describeApp(app, epoch);
    const now = text === null ? undefined : fingerprint(text);
    if (now === told.get(app)) return;
    told.set(app, maybe);
    await put(app, text);
    if (now === undefined) told.delete(app);
    else told.set(app, now);
  };
  /** After a failure no more are begun, for most often the bus is away; those not put stay dirty, the one that failed behind the others. */
  const putApps = async (): Promise<void> => {
    const work = dirty;
    dirty = new Set();
    const failures: unknown[] = [];
    const lane = async (): Promise<void> => {
      for (const app of work) {
        if (failures.length > 0) return;
        work.delete(app);
        try {
          await putApp(app);
        } catch (failure) {
          failures.push(failure);
          dirty.add(app);
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(underWayMax, work.size) }, lane));
    if (failures.length === 0) return;
    dirty = new Set([...work, ...dirty]);
    throw failures[0];
  };
  const beginEpoch = (): void => {
    epoch = ports.newEpoch();
    complete = false;
    told.clear();
    toldSelf = '';
    last = null;
    for (const app of ports.apps()) dirty.add(app);
  };
  /** Whether what was put last is where it was put, and so all before it. */
  const stands = async (put: typeof last): Promise<boolean> => put !== null && ((await ports.placeOf(put.app)) ?? 0) >= put.place;
  const publish = async (): Promise<void> => {
    const wasAway = unsure;
    unsure = false;
    if (wasAway && epoch !== '' && !(await stands(last))) epoch = '';
    if (epoch === '') beginEpoch();
    if (!complete) await putSelf();
    await putApps();
    complete = true;
    await putSelf();
  };
  const start = (): void => {
    forgetTimer = null;
    if (publishing !== null) return later(coalesceMs);
    publishing = publish()
      .catch((failure: unknown) => {
        unsure = true;
        ports.onFault(failure);
        later(retryMs);
      })
      .finally(() => {
        publishing = null;
      });
  };
  const later = (ms: number): void => {
    if (begun && !stopped) forgetTimer ??= ports.wakeIn(ms, start);
  };
  const soon = (): void => {
    forgetTimer?.();
    forgetTimer = null;
    if (begun && !stopped) start();
  };
  return {
    begin: () => {
      begun = true;
      soon();
    },
    changed: (app) => {
      if (app !== null) dirty.add(app);
      later(coalesceMs);
    },
    wake: () => {
      unsure = true;
      soon();
    },
    stop: async () => {
      stopped = true;
      forgetTimer?.();
      await publishing;
      if (begun) await publish();
    },
  };
}
