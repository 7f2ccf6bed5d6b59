import { open, mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf, Failure, messageOf } from '../../kit/errors.ts';
import { siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { offerObject } from '../../kit/wire/subjects.ts';
import { offerBytesMax, type WantedTemplate, type WeighedOffer } from '../model/exchange.ts';
import type { ExchangeSurroundings } from './ports.ts';

/** A template that was fetched and is this edgepoint's own now. */
export interface BroughtTemplate {
  readonly from: Site;
  readonly snapshotPath: string;
  readonly bytes: number;
  readonly imageBytes: number;
  /** Measured where it was made. */
  readonly coldBootMs: number;
  readonly tookMs: number;
}

export interface BringOrder {
  readonly wanted: WantedTemplate;
  /** In whose stores to look, in this order. */
  readonly from: readonly Site[];
  /** What lies there goes, when another has come. */
  readonly snapshotPath: string;
  /** What is fetched lies there meanwhile; nothing does afterwards. */
  readonly file: string;
  readonly timeoutMs: number;
  readonly cancelled?: AbortSignal;
}

/** What was found on the way, for people: an offer that cannot be used (`reason`), or one that is fetched. */
export type BringNote = { readonly from: Site } & (
  | { readonly kind: 'unusable'; readonly reason: string }
  /** `passing`: the store or snapd did not answer, or not in time. */
  | { readonly kind: 'failed'; readonly reason: string; readonly passing: boolean }
  | { readonly kind: 'fetches'; readonly bytes: number });

const passing: ReadonlySet<string> = new Set(['bus-away', 'bus-slow', 'bus-nobody', 'template-late', 'superseded', 'peer-gone', 'peer-slow', 'disk-full']);

/**
 * Looks for a template in the stores of other edgepoints (or in its own), and brings the first that can be used: what it stands on is
 * known before anything of it is fetched. Null when there is none, in time; nothing is left then. Never rejects.
 */
export async function bringTemplate(order: BringOrder, ports: ExchangeSurroundings & { nowMs(): number }, note: (about: BringNote) => void): Promise<BroughtTemplate | null> {
  const fromMs = ports.nowMs();
  const inTime = deadline(order);
  try {
    for (const from of order.from) {
      try {
        const found = await inTime.race(ports.objects.find(from, offerObject(order.wanted.owner, order.wanted.release)));
        if (found === null) continue;
        if (found.offer.length > offerBytesMax) throw new Failure('offer-too-long', `what ${siteKey(from)} says of it is longer than ${offerBytesMax} bytes`);
        const weighed = await inTime.race(ports.calls.weigh({ offer: found.offer, from, wanted: order.wanted }));
        if (!weighed.usable) {
          note({ from, kind: 'unusable', reason: weighed.reason });
          continue;
        }
        note({ from, kind: 'fetches', bytes: weighed.bytes });
        const admitted = await fetchAndAdmit(order, { from, found, weighed }, ports, inTime);
        return { from, ...admitted, imageBytes: weighed.imageBytes, coldBootMs: weighed.coldBootMs, tookMs: ports.nowMs() - fromMs };
      } catch (failure) {
        note({ from, kind: 'failed', reason: messageOf(failure), passing: passing.has(codeOf(failure)) });
        if (inTime.over) return null;
        // No other store would answer either.
        if (codeOf(failure) === 'bus-away') return null;
      }
    }
    return null;
  } finally {
    inTime.end();
  }
}

async function fetchAndAdmit(
  { wanted, file, snapshotPath }: BringOrder,
  about: { from: Site; found: { offer: string; open(): ReadableStream<Uint8Array> }; weighed: WeighedOffer & { usable: true } },
  ports: ExchangeSurroundings,
  inTime: Deadline,
): Promise<{ snapshotPath: string; bytes: number }> {
  const { from, found, weighed } = about;
  try {
    await fetchTo(file, { from, stream: found.open(), bytes: weighed.bytes, inTime });
    await ports.discard(snapshotPath);
    // Not cut off by the deadline: what is admitted is whole, and takes a moment.
    return await ports.calls.admit({ offer: found.offer, from, wanted, file, snapshotPath });
  } finally {
    await rm(file, { force: true });
  }
}

async function fetchTo(file: string, about: { from: Site; stream: ReadableStream<Uint8Array>; bytes: number; inTime: Deadline }): Promise<void> {
  const { from, stream, bytes, inTime } = about;
  await mkdir(dirname(file), { recursive: true });
  const to = await open(file, 'w', 0o600);
  const reader = stream.getReader();
  let got = 0;
  try {
    for (let read = await inTime.race(reader.read()); !read.done; read = await inTime.race(reader.read())) {
      got += read.value.length;
      if (got > bytes) throw new Failure('template-corrupt', `the template that ${siteKey(from)} offers is longer than the ${bytes} bytes it should be`);
      await to.write(read.value);
    }
  } finally {
    // The rest is not waited for.
    void reader.cancel().catch(() => undefined);
    await to.close();
  }
  if (got !== bytes) throw new Failure('template-corrupt', `of the template that ${siteKey(from)} offers ${got} of ${bytes} bytes came`);
}

/** One limit for all of it: whoever waits for a template can boot instead. */
interface Deadline {
  race<Value>(work: Promise<Value>): Promise<Value>;
  readonly over: boolean;
  end(): void;
}

function deadline({ timeoutMs, cancelled }: BringOrder): Deadline {
  let over = false;
  let fail: (failure: Failure) => void = () => undefined;
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  failed.catch(() => undefined); // met by whoever races with it
  const giveUp = (failure: Failure): void => {
    over = true;
    fail(failure);
  };
  const timer = setTimeout(() => giveUp(new Failure('template-late', `it did not come within ${timeoutMs} ms`)), timeoutMs);
  const cancel = (): void => giveUp(new Failure('superseded', 'a newer wish has taken its place'));
  cancelled?.addEventListener('abort', cancel, { once: true });
  if (cancelled?.aborted === true) cancel();
  return {
    race: (work) => Promise.race([work, failed]),
    get over() {
      return over;
    },
    end: () => {
      clearTimeout(timer);
      cancelled?.removeEventListener('abort', cancel);
    },
  };
}
