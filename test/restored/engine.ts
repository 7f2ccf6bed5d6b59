import type { ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { BootOrder, KernelCounters, RestoreOrder, RunningInstance, SnapshotTaken } from '../../edgepoint/model/calls.ts';
import type { PagersHold } from '../../edgepoint/model/frozen.ts';
import { offerings } from '../../edgepoint/model/offering.ts';
import { connectToPeer, type PeerConnection } from '../../host/calls.ts';
import { openLog } from '../../host/log.ts';
import { makeArtefact, server } from './app.ts';
import { type Place, openPlace } from './place.ts';

const bun = fileURLToPath(new URL('../../node_modules/.bin/bun', import.meta.url));
const entry = fileURLToPath(new URL('../../edgepoint/main.ts', import.meta.url));
const relayEntry = fileURLToPath(new URL('./relay.ts', import.meta.url));
const port = 8080;

export type DaemonName = 'restored' | 'snapd';

export interface Exit {
  readonly instance: string;
  readonly counters: KernelCounters;
  readonly status: string;
}

/** One edgepoint's snapshot engine: its real daemons in a place of their own, spoken to over their sockets as the head does. */
export interface Engine {
  readonly world: string;
  readonly folder: string;
  readonly runFolder: string;
  readonly place: Place;
  /** The artefact of the application that runs what it is told (app.ts). */
  readonly artefact: string;
  readonly restored: PeerConnection;
  readonly snapd: PeerConnection;
  /** Everything restored told unasked, in order: ends. */
  readonly exits: readonly Exit[];
  /** And what pagers hold. */
  readonly pagersHold: readonly PagersHold[];
  /** The order that boots `node server.js`; change what matters. */
  order(instance: string, change?: Partial<BootOrder>): BootOrder;
  boot(order: BootOrder): Promise<RunningInstance>;
  restore(order: Omit<RestoreOrder, 'env' | 'command'>): Promise<RunningInstance>;
  stop(instance: string, graceMs?: number): Promise<KernelCounters | null>;
  list(): Promise<RunningInstance[]>;
  snapshot(instance: string, snapshotPath: string, keepRunning?: boolean): Promise<SnapshotTaken>;
  /** A path for a snapshot on the edgepoint's disk. */
  snapshotPath(name: string): string;
  /** Folders of snapshots that lie unpacked in the hot cache, as this process sees them. */
  hot(): string[];
  /** Runs a function body in the application; waits while it does not listen yet. */
  run(instance: { readonly address: string }, body: string): Promise<unknown>;
  /** A connection to a port of an instance; waits while nobody listens, unless `isOver`. */
  connect(instance: { readonly address: string }, isOver?: () => boolean): Promise<Socket>;
  startDaemon(name: DaemonName): Promise<ChildProcess>;
  /** Changes settings of a daemon; they hold from its next start. */
  configure(name: DaemonName, change: Record<string, unknown>): void;
  daemon(name: DaemonName): ChildProcess;
  /** kill -9 and wait for its end. */
  killDaemon(name: DaemonName): Promise<void>;
  /** What lies about that no live instance and no ready slot explains; empty when all is well. */
  remains(): Promise<string[]>;
  /** Fails the test when something remains after a while. */
  nothingRemains(t: Test, message: string): Promise<void>;
}

/** Waits until the condition holds and returns its (truthy) value; fails with what was waited for. */
export async function until<T>(what: string, holds: () => T | Promise<T>, timeoutMs = 20_000): Promise<NonNullable<T>> {
  const endMs = Date.now() + timeoutMs;
  for (;;) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > endMs) throw new Error(`waited ${timeoutMs} ms for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}

export function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once('exit', () => resolve());
  });
}

/** Brings it up; everything goes when the test ends, and the test fails when something does not. */
export async function openEngine(t: Test, options: { poolSize?: number; baseRoot?: string; lazyFromBytes?: number; hotBytes?: number; edgepoint?: string; subnet?: string } = {}): Promise<Engine> {
  const folder = mkdtempSync(join(tmpdir(), 'engine-'));
  chmodSync(folder, 0o755);
  const world = `t${basename(folder).slice('engine-'.length).toLowerCase()}${process.pid}`;
  const runFolder = join(folder, 'run');
  const dataFolder = join(folder, 'data');
  for (const path of [runFolder, dataFolder]) mkdirSync(path);
  const { poolSize = 2, edgepoint = 'e', subnet = '10.77.0.0/24', ...given } = options;
  /* Not there until a test writes it. */
  const trustedFile = join(folder, 'trusted.json');
  const shared = { zone: 'z', edgepoint, runFolder, dataFolder, health: '' };
  const settings = { restored: { ...shared, world, subnet, poolSize, ...given }, snapd: { ...shared, trustedFile } };
  for (const [name, values] of Object.entries(settings)) writeFileSync(join(folder, `${name}.json`), JSON.stringify(values));
  const place = await openPlace(t, world, folder);
  const daemons = new Map<DaemonName, ChildProcess>();
  const exits: Exit[] = [];
  const pagersHold: PagersHold[] = [];
  const log = openLog('test');
  const restored = connectToPeer(join(runFolder, 'restored.sock'), { exited: (news: Exit) => void exits.push(news), pagersHold: (news: PagersHold) => void pagersHold.push(news) }, { log });
  const snapd = connectToPeer(join(runFolder, 'snapd.sock'), {}, { log });
  t.teardown(() => {
    restored.stop();
    snapd.stop();
  });
  const relay = place.spawn([bun, relayEntry, join(folder, 'relay.sock')], ['ignore', 'pipe', 'inherit']);
  await until('the relay is up', () => existsSync(join(folder, 'relay.sock')) || relay.exitCode !== null);

  const startDaemon = async (name: DaemonName): Promise<ChildProcess> => {
    const child = place.spawn([bun, entry, name, '--config', join(folder, `${name}.json`)], ['ignore', 'pipe', 'pipe']);
    child.stderr?.on('data', (text: Buffer) => process.env['SHOW_LOGS'] && t.comment(text.toString().trim()));
    daemons.set(name, child);
    const connection = name === 'restored' ? restored : snapd;
    await until(`${name} is up`, () => connection.up || child.exitCode !== null, 20_000);
    if (!connection.up) throw new Error(`${name} ended with ${child.exitCode}`);
    return child;
  };
  await Promise.all([startDaemon('restored'), startDaemon('snapd')]);

  const join_ = (address: string): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect(join(folder, 'relay.sock'));
      socket.once('error', reject).once('close', () => reject(new Error('refused')));
      socket.once('data', (joined: Buffer) => {
        socket.removeAllListeners('close');
        socket.removeAllListeners('error');
        if (joined.length > 'joined\n'.length) socket.unshift(joined.subarray('joined\n'.length));
        resolve(socket);
      });
      socket.write(`${address} ${port}\n`);
    });

  const post = async (address: string, body: string): Promise<string> => {
    const socket = await join_(address);
    return new Promise((resolve, reject) => {
      const asked = request({ method: 'POST', createConnection: () => socket, headers: { connection: 'close' }, timeout: 20_000 }, (answer) => {
        let text = '';
        answer.on('data', (part: Buffer) => (text += part.toString())).on('end', () => resolve(text)).on('error', reject);
      });
      asked.on('error', reject).on('timeout', () => asked.destroy(new Error('no answer within 20 s')));
      asked.end(body);
    });
  };

  const call = <Result>(peer: PeerConnection, method: string, params: unknown): Promise<Result> => peer.call(method, params) as Promise<Result>;
  const engine: Engine = {
    world,
    folder,
    runFolder,
    place,
    artefact: makeArtefact(folder, 'server', { 'server.js': server }),
    restored,
    snapd,
    exits,
    pagersHold,
    order: (instance, change = {}) => ({
      instance,
      owner: { provider: 'ann', scope: 'main', app: 'shop' },
      release: 1,
      uidSlot: 1000 + (process.pid % 10_000),
      offering: offerings[0] as BootOrder['offering'],
      artefactPath: engine.artefact,
      volumes: [],
      hostname: 'shop',
      ownNetwork: false,
      address: null,
      command: ['node', 'server.js'],
      env: {},
      ...change,
    }),
    boot: (order) => call(restored, 'boot', order),
    restore: (order) => call(restored, 'restore', order),
    stop: (instance, graceMs = 0) => call(restored, 'stop', { instance, graceMs }),
    list: () => call(restored, 'list', {}),
    snapshot: (instance, snapshotPath, keepRunning = true) => call(snapd, 'snapshot', { instance, snapshotPath, keepRunning }),
    snapshotPath: (name) => join(dataFolder, 'snapshots', name, '1'),
    hot: () => {
      const folder = place.path(join(runFolder, 'templates/hot'));
      return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
    },
    run: async ({ address }, body) => {
      const text = await until(`${address} answers`, () => post(address, body).catch((error: Error) => (/refused|ECONNRESET|hang up/.test(error.message) ? '' : Promise.reject(error))));
      const { ok, error } = JSON.parse(text) as { ok?: unknown; error?: string };
      if (error !== undefined) throw new Error(error);
      return ok;
    },
    connect: ({ address }, isOver = () => false) =>
      until(`${address} accepts`, async () => {
        if (isOver()) throw new Error(`${address} is no more`);
        return join_(address).catch(() => null);
      }),
    startDaemon,
    configure: (name, change) => writeFileSync(join(folder, `${name}.json`), JSON.stringify({ ...settings[name], ...change })),
    daemon: (name) => daemons.get(name) as ChildProcess,
    killDaemon: async (name) => {
      const child = daemons.get(name) as ChildProcess;
      child.kill('SIGKILL');
      await ended(child);
      const connection = name === 'restored' ? restored : snapd;
      await until(`the connection to ${name} is gone`, () => !connection.up);
    },
    remains: async () => {
      const live = await engine.list();
      return place.remains(runFolder, new Map(live.map((instance) => [instance.instance, basename(instance.cgroup.cpu)])), edgepoint);
    },
    nothingRemains: async (t, message) => {
      let last: string[] = [];
      await until('nothing remains', async () => (last = await engine.remains()).length === 0).catch(() => undefined);
      t.same(last, [], message);
    },
  };
  return engine;
}

/** What keeps a folder of snapshots from being whole: unfinished ones. */
export function unfinished(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder, { recursive: true }).map(String).filter((name) => name.endsWith('.part')) : [];
}

