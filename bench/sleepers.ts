import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Bus, connectBus } from '../host/bus.ts';
import type { Log } from '../host/log.ts';
import { exampleApp } from '../images/host/example-apps.ts';
import { type AppEvent, eventMessage } from '../kit/wire/event.ts';
import { streams } from '../kit/wire/subjects.ts';
import { parseMessage } from '../kit/wire/version.ts';
import type { WorldDescription } from '../world/start.ts';
import { type ChildWorld, deployFolder, openChildWorld } from './child-world.ts';
import type { Copy, DeployNews } from './crowd.ts';

/** The app that is deployed for real; others are copies of it. */
export const sleeper = { provider: 'bench', scope: 'main', app: 'hello' } as const;
const idleSeconds = 0.2;
const newsDeadlineMs = 20_000;

const silent: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: (text, fields) => console.error(text, fields), with: () => silent };

export type Edgepoint = WorldDescription['edgepoints'][number];

/** A real world with the sleeper deployed. */
export interface Sleepers {
  readonly description: WorldDescription;
  readonly bus: Bus;
  readonly news: News;
}

export async function withSleepers<T>(work: (sleepers: Sleepers) => Promise<T>): Promise<T> {
  const world = await openChildWorld();
  let bus: Bus | null = null;
  let news: News | null = null;
  try {
    const { description } = world;
    bus = await connectBus({ url: description.natsUrl, seed: readFileSync(join(description.runFolder, 'daemons/conduit/bus.seed'), 'utf8'), name: 'bench' }, silent);
    await deploy(world);
    news = await followNews(bus);
    return await work({ description, bus, news });
  } finally {
    news?.stop();
    await bus?.close();
    await world.stop();
  }
}

/** The small example, which falls asleep sooner. */
async function deploy(world: ChildWorld): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-bench-'));
  try {
    cpSync(exampleApp(sleeper.app), folder, { recursive: true });
    const manifest = join(folder, 'edgepoint.toml');
    writeFileSync(manifest, readFileSync(manifest, 'utf8').replace(/^idleSeconds = .*$/m, `idleSeconds = ${idleSeconds}`));
    await deployFolder(folder, { conduitUrl: world.description.conduitUrl, token: await world.newProvider(sleeper.provider) });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

// ---- waking ----

export interface News extends DeployNews {
  /** Resolves when that app has been woken and sleeps again there; rejects when it was not restored from its template. */
  afterWake(edgepoint: string, app: string): Promise<void>;
  stop(): void;
}

/** Something waited for: `note` judges each event about it; true ends the waiting, and what it throws fails it. */
interface Waiting {
  note(event: AppEvent): boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** What the edgepoints tell of deploys, wakes and sleeps. */
async function followNews(bus: Bus): Promise<News> {
  const waiting = new Map<string, Waiting>();
  const keyOf = (edgepoint: string, name: string): string => `${edgepoint}/${name}`;
  const following = await bus.consume(streams.events, { from: 'new' }, async (_subject, text) => {
    const parsed = parseMessage(eventMessage, text);
    if (!parsed.ok) throw new Error(parsed.reason);
    const event = parsed.value;
    const one = waiting.get(event.kind === 'deploy' ? event.deployId : keyOf(event.edgepoint, event.app));
    try {
      if (one?.note(event) === true) one.resolve();
    } catch (failure) {
      one?.reject(failure);
    }
  });
  const waitFor = (key: string, note: (event: AppEvent) => boolean): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error(`nothing was heard of ${key} within ${newsDeadlineMs} ms`)), newsDeadlineMs);
    waiting.set(key, { note, resolve, reject });
    const ended = promise.finally(() => {
      clearTimeout(timer);
      waiting.delete(key);
    });
    // Nobody awaits it yet when what should cause it fails first.
    ended.catch(() => undefined);
    return ended;
  };
  return {
    ready: (deployId) =>
      waitFor(deployId, ({ stage, text }) => {
        if (stage === 'failed') throw new Error(text);
        return stage === 'ready';
      }),
    afterWake: (edgepoint, name) => {
      let woken = false;
      return waitFor(keyOf(edgepoint, name), ({ kind, text }) => {
        if (kind === 'sleep' && woken) return true;
        woken = kind === 'wake' && text.includes('restored from its template');
        if (!woken) throw new Error(`${name} on ${edgepoint} was not woken by its template: ${text}`);
        return false;
      });
    },
    stop: () => following.stop(),
  };
}

export interface Woken {
  readonly tookMs: number;
  readonly asleepAgain: Promise<void>;
}

/** A request to an app that sleeps; milliseconds to its first byte. */
export async function wake(edgepoint: Edgepoint, copy: Copy, news: News): Promise<Woken> {
  const asleepAgain = news.afterWake(edgepoint.edgepoint, copy.app);
  return { tookMs: await timeToFirstByte(edgepoint.ipv4, copy.host), asleepAgain };
}

export function timeToFirstByte(address: string, host: string): Promise<number> {
  const begunMs = performance.now();
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const fail = (why: unknown): void => reject(new Error(`${host}: ${String(why)}`));
  Bun.connect({
    hostname: address,
    port: 80,
    socket: {
      open: (socket) => void socket.write(`GET /whoami HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`),
      data: (socket, bytes) => {
        const tookMs = performance.now() - begunMs;
        if (bytes.toString().startsWith('HTTP/1.1 200')) resolve(tookMs);
        else fail(bytes);
        socket.end();
      },
      close: () => fail('closed without an answer'),
      error: (_socket, error) => fail(error),
    },
  }).catch(fail);
  return promise;
}
