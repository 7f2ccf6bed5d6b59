import { createHash } from 'node:crypto';
import { codeOf } from '../../kit/errors.ts';
import type { Owner } from '../../kit/ids.ts';
import { offerObject } from '../../kit/wire/subjects.ts';
import { pieceBytesMax } from '../model/exchange.ts';
import { planStore, type Stored, type StoreLimits, type StoreStep } from './plan.ts';
import type { ExchangeSurroundings, StorableTemplate, StoredRecords } from './ports.ts';

export interface KeeperPorts extends ExchangeSurroundings {
  readonly records: StoredRecords;
  readonly limits: StoreLimits;
  /** The templates this edgepoint has now. */
  templates(): Promise<readonly StorableTemplate[]>;
  /** What lies in the store has changed. */
  onChange(stored: readonly Stored[]): void;
  /** Calls back once, after so many milliseconds; the returned function forgets it. */
  later(ms: number, callback: () => void): () => void;
}

/** Keeps this edgepoint's part of the object store as `planStore` says, in the background, one step after the other. */
export interface StoreKeeper {
  /** Templates, or who hosts them, have changed; or the bus has come back. */
  settle(): void;
  /** Resolves when what was asked for until now has been tried. */
  idle(): Promise<void>;
  stop(): Promise<void>;
}

/** After a refusal (the store is full, snapd is away); with the bus away nothing is tried until it is back. */
const retryMs = 60_000;

export function openStoreKeeper(ports: KeeperPorts): StoreKeeper {
  let wanted = false;
  let stopped = false;
  let cleared = false;
  let working: Promise<void> | null = null;
  let forgetRetry: () => void = () => undefined;

  /** Nothing is known of: what may lie there is of a life before, whose database was lost. */
  async function clearOnce(): Promise<void> {
    if (cleared) return;
    if ((await ports.records.stored()).length === 0) await ports.objects.clear();
    cleared = true;
  }

  async function work(): Promise<void> {
    await clearOnce();
    let failed: { failure: unknown } | null = null;
    while (wanted && !stopped) {
      wanted = false;
      failed = null;
      const templates = await ports.templates();
      const { steps, notes } = planStore(templates, await ports.records.stored(), ports.limits);
      for (const note of notes) ports.warn('a template is not put into the object store', { reason: note });
      for (const step of steps) {
        // What has changed meanwhile is planned anew.
        if (wanted || stopped) break;
        try {
          await carryOut(step, templates, ports);
        } catch (failure) {
          // With the bus away nothing else succeeds either; otherwise one that fails holds back no other.
          if (codeOf(failure) === 'bus-away') throw failure;
          failed ??= { failure };
        }
        ports.onChange(await ports.records.stored());
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
    idle: async () => {
      while (working !== null) await working;
    },
    stop: async () => {
      stopped = true;
      forgetRetry();
      await working;
    },
  };
}

async function carryOut(step: StoreStep, templates: readonly StorableTemplate[], ports: KeeperPorts): Promise<void> {
  if (step.kind === 'remove') return remove(step.stored, ports);
  const template = templates.find(({ name }) => name === step.template.name);
  if (template === undefined) throw new Error('broken invariant: a plan is of the templates there are');
  const earlier = step.kind === 'offer' ? step.stored : await recordOf(template, ports);
  if (step.kind === 'put') await ports.objects.put(template.name, piecesOf(template, ports), template.name);
  // An offer that was cut off, or that others than now could open, goes first: its chunks are known by its own id only.
  if (earlier.offerId !== '') await ports.objects.drop(offerObject(ownerOf(template), template.release), earlier.offerId);
  const { text } = await ports.calls.offer({ ...template.offer, sites: template.sites });
  const bytes = new TextEncoder().encode(text);
  const offerId = createHash('sha256').update(bytes).digest('hex');
  const stored: Stored = { ...earlier, sites: template.sites, offerId, whole: false };
  await ports.records.saveStored(stored);
  await ports.objects.put(offerObject(ownerOf(template), template.release), bytes, offerId);
  await ports.records.saveStored({ ...stored, whole: true });
}

/** What is said of it is said before it is begun, so that whoever comes after a kill knows of it. */
async function recordOf(template: StorableTemplate, ports: KeeperPorts): Promise<Stored> {
  const { app, release, name, bytes } = template;
  const known = (await ports.records.stored()).find((stored) => stored.name === name);
  if (known !== undefined) return known;
  const begun: Stored = { app, release, name, bytes, sites: [], offerId: '', whole: false };
  await ports.records.saveStored(begun);
  return begun;
}

const ownerOf = (template: StorableTemplate): Owner => template.offer.owner;

/** The offer first: nobody is led to what is on its way out. */
async function remove(stored: Stored, ports: KeeperPorts): Promise<void> {
  const [provider = '', scope = '', app = ''] = stored.app.split('.');
  if (stored.offerId !== '') await ports.objects.drop(offerObject({ provider, scope, app }, stored.release), stored.offerId);
  await ports.objects.drop(stored.name, stored.name);
  await ports.records.forgetStored(stored.name);
}

function piecesOf(template: StorableTemplate, ports: ExchangeSurroundings): ReadableStream<Uint8Array> {
  let from = 0;
  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      const { base64 } = await ports.calls.readSealed({ snapshotPath: template.offer.snapshotPath, from, bytes: Math.min(pieceBytesMax, template.bytes - from) });
      const piece = new Uint8Array(Buffer.from(base64, 'base64'));
      from += piece.length;
      if (piece.length > 0) controller.enqueue(piece);
      if (piece.length === 0 || from >= template.bytes) controller.close();
    },
  });
}
