import type { Bus } from '../../host/bus.ts';
import type { Log } from '../../host/log.ts';
import { Failure, codeOf, messageOf } from '../../kit/errors.ts';
import { newId, ownerKey, ownerOfKey, siteKey } from '../../kit/ids.ts';
import type { Owner, RandomBytes, Site } from '../../kit/ids.ts';
import { queueBodyBytesMax, queueBytesMax, queueMessageMessage, queueMessagesMax } from '../../kit/wire/queue.ts';
import type { QueueMessage } from '../../kit/wire/queue.ts';
import { buckets, queueKey, queuePlaceOf } from '../../kit/wire/subjects.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import type { QueuesAnswer } from '../api/answers.ts';
import { chooseCronSite } from '../placement.ts';
import type { AppStore, StoredApp } from '../store/apps.ts';

export interface QueuesPorts {
  readonly bus: Bus;
  readonly apps: AppStore;
  readonly sites: readonly Site[];
  /** Site keys of the edgepoints that can be reached now. */
  reachable(): ReadonlySet<string>;
  readonly randomBytes: RandomBytes;
  wallMs(): number;
  readonly log: Log;
}

/** Messages that wait for apps. The bus holds them; nothing of them is in the database. */
export interface Queues {
  /** It lies on the disk of the message server when this returns. */
  send(app: StoredApp, queue: string, message: { readonly contentType: string; readonly body: Uint8Array }): Promise<{ readonly id: string; readonly site: string }>;
  list(app: StoredApp): Promise<QueuesAnswer>;
  /** Has one that was put aside tried again, from its first attempt on. */
  retry(app: StoredApp, queue: string, id: string): Promise<void>;
  remove(app: StoredApp, queue: string, id: string): Promise<void>;
  /** The app is deleted. What is missed here is swept at the next start. */
  forget(owner: Owner): Promise<void>;
  stop(): void;
}

/** What is kept in memory of a message: all but its body. */
interface Held extends Omit<QueueMessage, 'bodyBase64'> {
  readonly app: string;
  readonly queue: string;
  readonly site: string;
  readonly place: number;
  readonly bytes: number;
}

/** So many messages of a queue are listed. */
const listedMax = 100;
const readyMs = 5000;
const triesMax = 5;

export async function openQueues(ports: QueuesPorts): Promise<Queues> {
  const { bus, apps, log } = ports;
  const held = new Map<string, Held>();
  /** Of each key, the place of what was heard of it last, by news or as an answer: these two come in any order. There are no more keys than places. */
  const heard = new Map<string, number>();
  const take = (key: string, text: string | null, place: number): void => {
    const at = queuePlaceOf(key);
    if (at === null || (place !== 0 && (heard.get(key) ?? 0) > place)) return;
    heard.set(key, place);
    const parsed = text === null ? null : parseMessage(queueMessageMessage, text);
    if (parsed === null) held.delete(key);
    else if (parsed.ok) held.set(key, heldOf(at, parsed.value, place));
    else log.warn('a message in a queue cannot be understood', { key, reason: parsed.reason });
  };
  const watches = await Promise.all(ports.sites.map((site) => bus.watchKv(buckets.queues, `${siteKey(site)}.>`, take)));
  let isRead = false;
  const ready = Promise.all(watches.map((watch) => watch.ready)).then(() => {
    isRead = true;
    return sweep();
  });
  /** Of apps that were deleted while nobody listened. */
  const sweep = async (): Promise<void> => {
    for (const owner of new Set([...held.values()].map(({ app }) => app))) {
      const found = await apps.findByName(ownerOfKey(owner).app);
      if (found === null || ownerKey(found.owner) !== owner) await forget(ownerOfKey(owner));
    }
  };
  const forget = async (owner: Owner): Promise<void> => {
    for (const [key, { app }] of held) if (app === ownerKey(owner)) await drop(key);
  };
  ready.catch((thrown: unknown) => log.warn('messages of deleted apps could not be removed', { reason: messageOf(thrown) }));
  /** What waits must be known before it is counted. */
  const untilRead = async (): Promise<void> => {
    const late = new Promise<void>((resolve) => setTimeout(resolve, readyMs).unref());
    if (!isRead) await Promise.race([ready.catch(() => undefined), late]);
    if (!isRead || !bus.up) throw new Failure('bus-away', 'the message bus is away, and the queues with it', { remedy: 'Try again in a few seconds.' });
  };
  // One at a time: a place that is free when it is chosen must be so when it is written. (The bus would refuse the second.)
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = last.then(work, work);
    last = result.catch(() => undefined);
    return result;
  };
  const drop = async (key: string): Promise<void> => {
    const known = held.get(key);
    if (known === undefined) return;
    take(key, null, await bus.deleteKv(buckets.queues, key, known.place));
  };
  const found = (app: StoredApp, queue: string, id: string): [string, Held] => {
    for (const entry of held) if (entry[1].app === ownerKey(app.owner) && entry[1].queue === queue && entry[1].id === id) return entry;
    throw new Failure('message-unknown', `no message ${JSON.stringify(id)} waits in the queue ${JSON.stringify(queue)} of ${app.owner.app}`, { remedy: '`conduit queue list` shows those that do.' });
  };
  const siteOf = async (app: StoredApp): Promise<Site> => {
    const { hosting } = await apps.placements(app.id);
    const chosen = chooseCronSite({ hosting, current: '', reachable: ports.reachable() });
    const site = hosting.find((one) => siteKey(one) === chosen);
    if (site === undefined) throw new Failure('no-edgepoint', `no edgepoint hosts ${app.owner.app}`, { remedy: 'Tell the operator; try again later.' });
    return site;
  };
  const put = async (app: StoredApp, queue: string, site: Site, message: QueueMessage): Promise<void> => {
    const text = encodeMessage(queueMessageMessage, message);
    for (let place = 0, tries = 0; place < queueMessagesMax; place += 1) {
      const key = queueKey(site, app.owner, queue, place);
      if (held.has(key)) continue;
      try {
        const at = await bus.putKv(buckets.queues, key, text, (await bus.placeOfKv(buckets.queues, key)) ?? 0);
        take(key, text, at);
        return;
      } catch (thrown) {
        // Something stands there that has not been heard of yet, or the edgepoint's part is full.
        if (codeOf(thrown) !== 'bus-refused' || (tries += 1) >= triesMax) throw thrown;
      }
    }
    throw full(app, 'it has no place left');
  };

  return {
    async send(app, queue, { contentType, body }) {
      await knownQueue(apps, app, queue);
      if (body.byteLength > queueBodyBytesMax) throw tooBig();
      await untilRead();
      return inTurn(async () => {
        const owner = ownerKey(app.owner);
        let bytes = body.byteLength;
        let count = 0;
        for (const one of held.values()) {
          if (one.app !== owner) continue;
          count += 1;
          bytes += one.bytes;
        }
        if (count >= queueMessagesMax) throw full(app, `${count} messages wait already`);
        if (bytes > queueBytesMax) throw full(app, `messages of ${bytes} bytes would wait`);
        const site = await siteOf(app);
        const id = newId('msg', ports.randomBytes);
        const bodyBase64 = Buffer.from(body).toString('base64');
        try {
          await put(app, queue, site, { id, sentWallMs: ports.wallMs(), contentType, bodyBase64, attempts: 0, notBeforeWallMs: 0, reason: '', dead: false });
        } catch (thrown) {
          if (codeOf(thrown) === 'bus-refused') throw full(app, `the message server takes no more for ${siteKey(site)}`);
          throw thrown;
        }
        return { id, site: siteKey(site) };
      });
    },
    async list(app) {
      await untilRead();
      const release = await apps.release(app.id, app.release);
      const ours = [...held.values()].filter((one) => one.app === ownerKey(app.owner)).toSorted((a, b) => a.sentWallMs - b.sentWallMs || (a.id < b.id ? -1 : 1));
      // Also of queues that its manifest has no longer.
      const names = new Set([...(release?.manifest.queue ?? []).map(({ name }) => name), ...ours.map(({ queue }) => queue)]);
      const queues = [...names].map((name) => {
        const messages = ours.filter(({ queue }) => queue === name);
        const dead = messages.filter((one) => one.dead).length;
        return { name, waiting: messages.length - dead, dead, messages: messages.slice(0, listedMax).map(({ app: _app, queue: _queue, place: _place, ...told }) => told) };
      });
      return { app: app.owner.app, queues };
    },
    async retry(app, queue, id) {
      await untilRead();
      await inTurn(async () => {
        const [key, { place }] = found(app, queue, id);
        const text = await bus.getKv(buckets.queues, key);
        const parsed = text === null ? null : parseMessage(queueMessageMessage, text);
        if (parsed?.ok !== true || parsed.value.id !== id) throw new Failure('busy', 'that message is being tried just now', { remedy: 'Look again in a few seconds.' });
        if (!parsed.value.dead) throw new Failure('message-waits', 'that message has not been put aside: it is tried by itself');
        const again = { ...parsed.value, dead: false, attempts: 0, notBeforeWallMs: 0 };
        take(key, encodeMessage(queueMessageMessage, again), await bus.putKv(buckets.queues, key, encodeMessage(queueMessageMessage, again), place));
      });
    },
    async remove(app, queue, id) {
      await untilRead();
      await inTurn(() => drop(found(app, queue, id)[0]));
    },
    forget,
    stop: () => {
      for (const watch of watches) watch.stop();
    },
  };
}

function heldOf({ site, app, queue }: { readonly site: string; readonly app: string; readonly queue: string }, { bodyBase64, ...rest }: QueueMessage, place: number): Held {
  return { ...rest, site, app, queue, place, bytes: Buffer.byteLength(bodyBase64, 'base64') };
}

async function knownQueue(apps: AppStore, app: StoredApp, queue: string): Promise<void> {
  const names = ((await apps.release(app.id, app.release))?.manifest.queue ?? []).map(({ name }) => name);
  if (names.includes(queue)) return;
  const remedy = names.length === 0 ? 'Give it one by [[queue]] in edgepoint.toml.' : `It has: ${names.join(', ')}.`;
  throw new Failure('queue-unknown', `${app.owner.app} has no queue ${JSON.stringify(queue.slice(0, 64))}`, { remedy });
}

export const tooBig = (): Failure => new Failure('message-too-big', `a message has more than ${queueBodyBytesMax} bytes`, { remedy: 'Send what it is about, and where the rest lies.' });
const full = (app: StoredApp, why: string): Failure =>
  new Failure('queue-full', `the queues of ${app.owner.app} are full: ${why}`, { remedy: 'Wait until some are taken; `conduit queue list` shows those put aside.' });
