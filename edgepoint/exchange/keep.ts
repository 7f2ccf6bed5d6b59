import { codeOf } from '../../kit/errors.ts';
import { offerObject } from '../../kit/wire/subjects.ts';
import { pieceBytesMax } from '../model/exchange.ts';
import { planStore, type Storable, type Stored, type StoreLimits, type StoreStep } from './plan.ts';
import type { ExchangeSurroundings, OfferFacts, StoredRecords } from './ports.ts';

export interface KeeperPorts extends ExchangeSurroundings {
  readonly records: StoredRecords;
  readonly limits: StoreLimits;
  /** The templates this edgepoint has now. */
  templates(): Promise<readonly Storable[]>;
  /** Null when the template is not there any more. */
  offerOf(template: Storable): Promise<OfferFacts | null>;
  /** What lies whole in the store has changed. */
  onChange(stored: readonly Stored[]): void;
  /** Calls back once, after so many milliseconds; the returned function forgets it. */
  later(ms: number, callback: () => void): () => void;
}

/** Keeps this edgepoint's part of the object store as `planStore` says, in the background, one step after the other. */
export interface StoreKeeper {
  /** Templates, or who hosts them, have changed; or the bus has come back. */
  settle(): void;
  stop(): Promise<void>;
}

/** After a refusal (the store is full, snapd is away); with the bus away nothing is tried until it is back. */
const retryMs = 60_000;

export function openStoreKeeper(ports: KeeperPorts): StoreKeeper {
  let wanted = false;
  let stopped = false;
  let cleared = false;
  /** What was said last time is not said again. */
  let told: ReadonlySet<string> = new Set();
  let working: Promise<void> | null = null;
  let forgetRetry: () => void = () => undefined;

  /** Nothing is known of: what may lie there is of a life before, whose database was lost. */
  async function clearOnce(): Promise<void> {
    if (cleared) return;
    if ((await ports.records.stored()).length === 0) await ports.objects.clear();
    cleared = true;
  }

  async function work(): Promise<void> {
    wanted = false;
    await clearOnce();
    wanted = true;
    let failed: { failure: unknown } | null = null;
    while (wanted && !stopped) {
      wanted = false;
      failed = null;
      /** By name; read once, for this alone changes it while it carries out its plan. */
      const stored = new Map((await ports.records.stored()).map((one) => [one.name, one]));
      const { steps, notes } = planStore(await ports.templates(), [...stored.values()], ports.limits);
      for (const note of notes) if (!told.has(note)) ports.warn('a template is not put into the object store', { reason: note });
      told = new Set(notes);
      for (const step of steps) {
        // What has changed meanwhile is planned anew.
        if (wanted || stopped) break;
        const name = step.kind === 'remove' ? step.stored.name : step.template.name;
        const wasWhole = stored.get(name)?.whole === true;
        try {
          await carryOut(step, stored, ports);
        } catch (failure) {
          // With the bus away nothing else succeeds either; otherwise one that fails holds back no other.
          if (codeOf(failure) === 'bus-away') throw failure;
          failed ??= { failure };
        }
        if ((stored.get(name)?.whole === true) !== wasWhole) ports.onChange([...stored.values()]);
      }
    }
    if (failed !== null) throw failed.failure;
  }

  function settle(): void {
    wanted = true;
    if (working !== null || stopped) return;
    forgetRetry();
    working = work()
      .catch((failure: unknown) => {
        if (stopped) return;
        if (codeOf(failure) !== 'bus-away') ports.warn('the object store could not be settled; it is tried again', { failure });
        forgetRetry = ports.later(retryMs, settle);
      })
      .finally(() => {
        working = null;
        if (wanted && !stopped) settle();
      });
  }

  return {
    settle,
    stop: async () => {
      stopped = true;
      forgetRetry();
      await working;
    },
  };
}

/** `stored` becomes what the records say. */
async function carryOut(step: StoreStep, stored: Map<string, Stored>, ports: KeeperPorts): Promise<void> {
  if (step.kind === 'remove') return remove(step.stored, stored, ports);
  const { app, release, name, bytes, sites } = step.template;
  const offer = await ports.offerOf(step.template);
  // Whoever has removed it settles again.
  if (offer === null) return;
  const save = async (one: Stored): Promise<void> => {
    await ports.records.saveStored(one);
    stored.set(name, one);
  };
  const begun: Stored = { app, release, name, bytes, sites, whole: false };
  // Said before it is begun, so that whoever comes after a kill knows of it.
  await save(begun);
  await ports.objects.put(objectOf(begun), {
    id: name,
    content: () => piecesOf({ snapshotPath: offer.snapshotPath, bytes }, ports),
    offer: async () => (await ports.calls.offer({ ...offer, sites })).text,
  });
  await save({ ...begun, whole: true });
}

async function remove(one: Stored, stored: Map<string, Stored>, ports: KeeperPorts): Promise<void> {
  await ports.objects.drop(objectOf(one), one.name);
  await ports.records.forgetStored(one.name);
  stored.delete(one.name);
}

function objectOf({ app, release }: Pick<Stored, 'app' | 'release'>): string {
  const [provider = '', scope = '', name = ''] = app.split('.');
  return offerObject({ provider, scope, app: name }, release);
}

function piecesOf({ snapshotPath, bytes }: { snapshotPath: string; bytes: number }, ports: ExchangeSurroundings): ReadableStream<Uint8Array> {
  let from = 0;
  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      const { base64 } = await ports.calls.readSealed({ snapshotPath, from, bytes: Math.min(pieceBytesMax, bytes - from) });
      const piece = new Uint8Array(Buffer.from(base64, 'base64'));
      from += piece.length;
      if (piece.length > 0) controller.enqueue(piece);
      if (piece.length === 0 || from >= bytes) controller.close();
    },
  });
}
