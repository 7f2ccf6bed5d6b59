import { codeOf, messageOf } from '../kit/errors.ts';
import { fingerprint } from '../kit/fingerprint.ts';
import { newsSubject } from '../kit/wire/subjects.ts';
import type { BusLink } from './bus-link.ts';
import { readEntry, streamOfKey, textOf } from './bus-entries.ts';

/**
 * A watch of a bucket, without a consumer in the server. The stream tells each stored message again on a core subject
 * (`republish`); a watch listens there first and then reads what is stored, so that nothing falls between. It reads again
 * after each loss of the connection, and when, looked at now and then, the stream's last message is not the last one it knows.
 */

const lookMsDefault = 20_000;
/**
 * Each look asks for what is later than what is known, which costs the server nothing when there is none. That the last message known is still the
 * last one is asked less often, for the server then reads some megabytes around it into its memory and keeps them for a while.
 */
const looksUntilWhole = 15;
/** Questions under way at once: each waits for the server's answer before the next, and a bucket may hold many thousands of keys. */
const readsMax = 16;
const retryMsMin = 100;
const retryMsMax = 2000;

interface News {
  readonly sequence: number;
  readonly text: string | null;
}


export function watchEntries(
  link: BusLink,
  bucket: string,
  filter: string,
  onEntry: (key: string, text: string | null, place: number) => void | Promise<void>,
  lookMs = lookMsDefault,
): { ready: Promise<void>; stop(): void } {
  const stream = streamOfKey(bucket, filter);
  const stored = `$KV.${bucket}.${filter}`;
  /** What was delivered last of each key: where in the stream it stands, and the fingerprint of its text; a deletion has none. */
  const known = new Map<string, number>();
  const prints = new Map<string, number>();
  const deliveries = orderedDeliveries(onEntry, (key, error) => link.log.error('an entry could not be taken', { bucket, key, error }));
  /** News that came while reading; applied after it. */
  let held: Map<string, News> | null = null;
  let again = false;
  let stopped = false;
  let lastSequence = 0;
  let looks = 0;
  let timer: ReturnType<typeof setTimeout> | null = null;
  let sayReady: () => void = () => {};
  const ready = new Promise<void>((resolve) => {
    sayReady = resolve;
  });

  const take = (key: string, { sequence, text }: News): void => {
    const before = known.get(key);
    const printBefore = prints.get(key);
    known.set(key, sequence);
    if (text === null) prints.delete(key);
    else prints.set(key, fingerprint(text));
    lastSequence = Math.max(lastSequence, sequence);
    if (prints.get(key) !== printBefore || (before !== undefined && before !== sequence && text !== null)) deliveries.add(key, text, sequence);
  };
  const news = (key: string, entry: News): void => {
    if (((held === null ? known.get(key) : held.get(key)?.sequence) ?? 0) >= entry.sequence) return;
    if (held === null) take(key, entry);
    else held.set(key, entry);
  };
  /** What is stored, by key, in the order in which it was. What changes meanwhile is told as news. */
  const readStored = async (): Promise<Map<string, News>> => {
    const found: (News & { readonly key: string })[] = [];
    const readRange = async (first: number, last: number): Promise<void> => {
      for (let from = first; !stopped && from <= last; ) {
        const entry = await readEntry(link, stream, { seq: from, next_by_subj: stored });
        if (entry === null || entry.sequence > last) return;
        found.push({ key: entry.subject.slice(`$KV.${bucket}.`.length), sequence: entry.sequence, text: entry.text });
        from = entry.sequence + 1;
      }
    };
    const newest = await newestStored();
    const width = Math.ceil(newest / readsMax);
    await Promise.all(Array.from({ length: Math.min(readsMax, newest) }, (_, lane) => readRange(lane * width + 1, Math.min(newest, (lane + 1) * width))));
    return new Map(found.toSorted((one, other) => one.sequence - other.sequence).map(({ key, ...news }) => [key, news]));
  };
  const readAll = async (): Promise<void> => {
    const found = await readStored();
    const during = held ?? new Map<string, News>();
    held = null;
    lastSequence = 0;
    for (const [key, entry] of found) take(key, entry);
    for (const [key, entry] of during) if (entry.sequence > (found.get(key)?.sequence ?? 0)) take(key, entry);
    for (const key of known.keys()) {
      if (found.has(key) || during.has(key)) continue;
      known.delete(key);
      if (prints.delete(key)) deliveries.add(key, null, 0);
    }
  };
  const sync = async (): Promise<void> => {
    if (held !== null) {
      again = true;
      return;
    }
    for (let retryMs = retryMsMin; !stopped && link.up; retryMs = Math.min(retryMsMax, retryMs * 2)) {
      again = false;
      held ??= new Map();
      try {
        await readAll();
        void deliveries.settled().then(sayReady);
        if (!again) return;
      } catch (thrown) {
        // Away: the next connection reads again. Otherwise (the stream is not made yet, the server is slow) now and then.
        if (codeOf(thrown) === 'bus-away') break;
        link.log.debug('a bucket cannot be read yet', { bucket, filter, error: messageOf(thrown) });
        await new Promise((resolve) => setTimeout(resolve, retryMs));
      }
    }
    held = null;
    if (link.up && !stopped && again) void sync();
  };
  const newestStored = async (): Promise<number> => (await readEntry(link, stream, { last_by_subj: stored }))?.sequence ?? 0;
  const hasLater = async (sequence: number): Promise<boolean> => (await readEntry(link, stream, { seq: sequence + 1, next_by_subj: stored })) !== null;
  const look = async (): Promise<void> => {
    if (stopped) return;
    try {
      looks += 1;
      const before = lastSequence;
      if (link.up && held === null) {
        const isOther = await hasLater(before) || (looks % looksUntilWhole === 0 && (await newestStored()) !== before);
        if (isOther && before === lastSequence) void sync();
      }
    } catch (thrown) {
      link.log.debug('a bucket could not be looked at', { bucket, filter, error: messageOf(thrown) });
    }
    if (!stopped) timer = setTimeout(() => void look(), lookMs);
  };

  const subscription = link.subscribe(newsSubject(bucket, filter), (message) => {
    const sequence = Number(message.headers?.get('Nats-Sequence') ?? '');
    // Only what the stream itself tells carries its sequence.
    if (!(sequence > 0)) return;
    const key = message.subject.slice(newsSubject(bucket, '').length);
    news(key, { sequence, text: textOf(message.headers?.get('KV-Operation') ?? '', message.data) });
  });
  const forgetUp = link.onUp(() => void sync());
  timer = setTimeout(() => void look(), lookMs);
  const stop = (): void => {
    if (stopped) return;
    stopped = true;
    subscription.stop();
    forgetUp();
    deliveries.clear();
    if (timer !== null) clearTimeout(timer);
  };
  link.onClose(stop);
  return { ready, stop };
}

/**
 * One delivery after the other. A key that changes again while it waits is delivered once, with the newest text: so at most
 * as many wait as there are keys.
 */
function orderedDeliveries(
  onEntry: (key: string, text: string | null, place: number) => void | Promise<void>,
  onFailure: (key: string, error: unknown) => void,
): { add(key: string, text: string | null, place: number): void; clear(): void; settled(): Promise<void> } {
  const waiting = new Map<string, { readonly text: string | null; readonly place: number }>();
  let running: Promise<void> = Promise.resolve();
  let busy = false;
  const run = async (): Promise<void> => {
    for (let next = waiting.entries().next(); !next.done; next = waiting.entries().next()) {
      const [key, { text, place }] = next.value;
      waiting.delete(key);
      try {
        await onEntry(key, text, place);
      } catch (error) {
        onFailure(key, error);
      }
    }
    busy = false;
  };
  return {
    add: (key, text, place) => {
      waiting.set(key, { text, place });
      if (busy) return;
      busy = true;
      running = run();
    },
    clear: () => waiting.clear(),
    settled: () => running,
  };
}
