import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { Server } from 'node:http';
import { basename, dirname, join } from 'node:path';
import { listenForPeers, connectToPeer } from '../../host/calls.ts';
import type { Handlers, Peer } from '../../host/calls.ts';
import { openClock } from '../../host/clock.ts';
import { Failure } from '../../kit/errors.ts';
import { isCanary, ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import type { AdmitOrder, OfferOrder, WantedTemplate, WeighedOffer } from '../../edgepoint/model/exchange.ts';
import type { AnswerCounts, BootOrder, Demand, RestoreOrder, Route, RunningInstance, SnapshotOrder, SnapshotTaken } from '../../edgepoint/model/calls.ts';
import type { PagersHold } from '../../edgepoint/model/frozen.ts';
import { quietLog } from '../host/nats.ts';

/**
 * A restored, snapd and dispatcher that speak the real calls over the real sockets. Instances are HTTP servers in this process, on
 * loopback addresses of their own; what a program does is said by its command:
 *   serve [BOOT-MS] | exit | silent | status CODE
 */
export interface FakeInstance {
  readonly running: RunningInstance;
  readonly order: BootOrder | RestoreOrder;
  server: Server | null;
  /** It never listens any more. */
  ended: boolean;
  /** Counts its requests: its memory. */
  requests: number;
  /** Paths asked for since it runs, in order. */
  readonly asked: string[];
  frozen: boolean;
  /** Requests that came while it stood still. */
  readonly stalled: (() => void)[];
}

/** What a fake snapd says of a template, and believes. */
type FakeOffer = Omit<OfferOrder, 'snapshotPath'> & { readonly name: string; readonly bytes: number };

const sealedName = /\/[0-9a-f]{64}$/;

let lastAddress = 1 + (process.pid % 60) * 4000;

export class FakeMachine {
  readonly instances = new Map<string, FakeInstance>();
  /** Calls in order, as `boot i-1`. */
  readonly calls: string[] = [];
  /** Paths that ended instances were asked for, by instance. */
  readonly asked = new Map<string, readonly string[]>();
  /** Programs that snapshots say have no clone guard. */
  unguarded: readonly string[] = [];
  /** What was ordered to be booted or restored, in order. */
  readonly orders: (BootOrder | RestoreOrder)[] = [];
  failRestore = '';
  failRestoreCode = 'restore-failed';
  failSnapshot = '';
  failBoot = '';
  failFreeze = '';
  /** A restore takes this long. */
  restoreMs = 5;
  /** What a snapshot says of its size. */
  snapshotBytes = 1000;
  /** Held until it resolves, before a restore answers. */
  holdRestore: Promise<void> = Promise.resolve();
  /** Held until it resolves, before a snapshot is taken. */
  holdSnapshot: Promise<void> = Promise.resolve();
  /** Held until it resolves, before a freeze answers; a thaw cuts it short. */
  holdFreeze: Promise<void> = Promise.resolve();
  /** Why templates of others cannot be used here. */
  refuseOffers = '';
  /** What a snapshot at rest is filled up to. */
  sealedBytes = 1000;
  private cutFreeze = new Map<string, () => void>();
  private stopped = false;
  private readonly folder: string;
  private readonly peers = new Set<Peer>();
  private doors: { stop(): void; readonly ready: Promise<void> }[] = [];

  constructor(folder: string) {
    this.folder = folder;
  }

  async start(): Promise<void> {
    const onPeer = (peer: Peer): void => {
      this.peers.add(peer);
      void peer.closed.then(() => this.peers.delete(peer));
    };
    const restored: Handlers = {
      boot: (order: BootOrder) => this.boot(order),
      restore: (order: RestoreOrder) => this.restore(order),
      stop: (order: { instance: string }) => this.stopInstance(order.instance),
      freeze: (order: { instance: string }) => this.freeze(order.instance),
      thaw: (order: { instance: string }) => this.thaw(order.instance),
      opens: () => 'the key of this machine',
      list: () => [...this.instances.values()].map(({ running, frozen }) => (frozen ? { ...running, frozen } : running)),
    } as Handlers;
    const snapd: Handlers = {
      snapshot: (order: SnapshotOrder) => this.snapshot(order),
      discard: (order: { snapshotPath: string }) => {
        this.calls.push(`discard ${order.snapshotPath}`);
        rmSync(sealedName.test(order.snapshotPath) ? dirname(order.snapshotPath) : order.snapshotPath, { recursive: true, force: true });
      },
      offer: ({ snapshotPath, ...order }: OfferOrder) => {
        const { length } = readFileSync(snapshotPath);
        const offer: FakeOffer = { ...order, name: basename(snapshotPath), bytes: length };
        return { text: JSON.stringify(offer), granted: order.sites };
      },
      readSealed: (order: { snapshotPath: string; from: number; bytes: number }) => ({ base64: readFileSync(order.snapshotPath).subarray(order.from, order.from + order.bytes).toString('base64') }),
      weigh: (order: { offer: string; wanted: WantedTemplate }) => this.weigh(order),
      admit: (order: AdmitOrder) => this.admit(order),
    } as Handlers;
    this.doors = [
      listenForPeers(join(this.folder, 'restored.sock'), restored, { log: quietLog, onPeer }),
      listenForPeers(join(this.folder, 'snapd.sock'), snapd, { log: quietLog }),
    ];
    for (const door of this.doors) await door.ready;
  }

  stop(): void {
    this.stopped = true;
    for (const door of this.doors) door.stop();
    for (const instance of this.instances.values()) closeServer(instance);
    this.instances.clear();
  }

  serving(): FakeInstance[] {
    return [...this.instances.values()].filter(({ running }) => running.instance.startsWith('i-'));
  }

  count(call: string): number {
    return this.calls.filter((made) => made.startsWith(call)).length;
  }

  /** As an app that dies by itself. */
  crash(id: string): void {
    const found = this.instances.get(id);
    if (found === undefined) throw new Error(`no instance ${id}`);
    this.instances.delete(id);
    closeServer(found);
    for (const peer of this.peers) peer.tell('exited', { instance: id, counters: { cpuNs: 1, memoryBytes: 1 }, status: 'ended' });
  }

  /** As restored does where page faults may be answered. */
  tellPagersHold(news: PagersHold): void {
    for (const peer of this.peers) peer.tell('pagersHold', news);
  }

  private async boot(order: BootOrder): Promise<RunningInstance> {
    this.calls.push(`boot ${order.instance}`);
    const known = this.instances.get(order.instance);
    if (known !== undefined) return known.running;
    if (this.failBoot !== '') throw new Failure('boot-failed', this.failBoot);
    const made = this.make(order, false, 0);
    const [word, more] = order.command;
    if (word === 'exit') {
      writeFileSync(made.running.logPath, 'Error: Cannot find module express\n');
      // `exit at-once`: the news of it is there before the answer to the boot.
      if (more === 'at-once') this.crash(order.instance);
      else setTimeout(() => this.crash(order.instance), 10);
    } else if (word === 'serve') setTimeout(() => void listen(made, order.env['PORT'] ?? '', 200), Number(more ?? '30'));
    else if (word === 'status') await listen(made, order.env['PORT'] ?? '', Number(more));
    return made.running;
  }

  private async restore(order: RestoreOrder): Promise<RunningInstance> {
    this.calls.push(`restore ${order.instance}`);
    const known = this.instances.get(order.instance);
    if (known !== undefined) return known.running;
    await this.holdRestore;
    await new Promise((resolve) => setTimeout(resolve, this.restoreMs));
    if (this.failRestore !== '') throw new Failure(this.failRestoreCode, this.failRestore);
    if (!existsSync(order.snapshotPath)) throw new Failure('snapshot-refused', 'its snapshot is refused: it is not there');
    const image = JSON.parse(readFileSync(order.snapshotPath, 'utf8')) as { requests: number; port: string };
    const made = this.make(order, true, image.requests);
    await listen(made, image.port, 200);
    return made.running;
  }

  private make(order: BootOrder | RestoreOrder, restored: boolean, requests: number): FakeInstance {
    this.orders.push(order);
    if (!existsSync(join(order.artefactPath, 'app'))) throw new Failure('boot-failed', `${order.artefactPath}/app is not there`);
    lastAddress += 1;
    const address = order.address ?? `127.${20 + ((lastAddress >> 16) & 127)}.${(lastAddress >> 8) & 255}.${1 + (lastAddress % 254)}`;
    const logPath = join(this.folder, `${order.instance}.log`);
    writeFileSync(logPath, '');
    const none = join(this.folder, 'no-cgroup');
    const running: RunningInstance = {
      instance: order.instance,
      owner: order.owner,
      release: order.release,
      pid: 1,
      address,
      tookMs: 1,
      stepsMs: {},
      cgroup: { version: 1, cpu: none, memory: none, pids: none, freezer: none },
      logPath,
      logStartBytes: 0,
      restored,
    };
    const made: FakeInstance = { running, order, server: null, ended: this.stopped, requests, asked: [], frozen: false, stalled: [] };
    this.instances.set(order.instance, made);
    this.asked.set(order.instance, made.asked);
    return made;
  }

  private async freeze(id: string): Promise<{ memoryBytes: number; givenBackBytes: number; stoppedMs: number; tookMs: number }> {
    this.calls.push(`freeze ${id}`);
    if (this.failFreeze !== '') throw new Failure('cannot-freeze', this.failFreeze);
    this.found(id).frozen = true;
    await Promise.race([this.holdFreeze, new Promise<void>((resolve) => this.cutFreeze.set(id, resolve))]);
    return { memoryBytes: 3000, givenBackBytes: 2000, stoppedMs: 1, tookMs: 2 };
  }

  private thaw(id: string): { tookMs: number } {
    this.calls.push(`thaw ${id}`);
    const found = this.found(id);
    found.frozen = false;
    this.cutFreeze.get(id)?.();
    for (const answer of found.stalled.splice(0)) answer();
    return { tookMs: 1 };
  }

  private found(id: string): FakeInstance {
    const found = this.instances.get(id);
    if (found === undefined) throw new Failure('no-such-instance', `there is no ${id}`);
    return found;
  }

  private stopInstance(id: string): { cpuNs: number; memoryBytes: number } | null {
    this.calls.push(`stop ${id}`);
    const found = this.instances.get(id);
    if (found === undefined) return null;
    this.instances.delete(id);
    closeServer(found);
    return { cpuNs: 5_000_000, memoryBytes: 1024 };
  }

  private weigh({ offer, wanted }: { offer: string; wanted: WantedTemplate }): WeighedOffer {
    this.calls.push('weigh');
    const told = JSON.parse(offer) as FakeOffer;
    if (told.orderDigest !== wanted.orderDigest || told.release !== wanted.release) return { usable: false, reason: 'it was made of another artefact or manifest' };
    return this.refuseOffers === '' ? { usable: true, ...told } : { usable: false, reason: this.refuseOffers };
  }

  private admit({ offer, file, snapshotPath }: AdmitOrder): { snapshotPath: string; bytes: number } {
    this.calls.push('admit');
    const { name } = JSON.parse(offer) as FakeOffer;
    const bytes = readFileSync(file);
    if (createHash('sha256').update(bytes).digest('hex') !== name) throw new Failure('snapshot-refused', 'its snapshot is refused: it is not what was sealed');
    mkdirSync(snapshotPath, { recursive: true });
    writeFileSync(join(snapshotPath, name), bytes);
    return { snapshotPath: join(snapshotPath, name), bytes: bytes.length };
  }

  private taken(order: SnapshotOrder): SnapshotTaken {
    const [name = ''] = readdirSync(order.snapshotPath);
    const snapshotPath = join(order.snapshotPath, name);
    return { snapshotPath, bytes: readFileSync(snapshotPath).length, imageBytes: this.snapshotBytes, frozenMs: 3, tookMs: 4, unguarded: this.unguarded };
  }

  private async snapshot(order: SnapshotOrder): Promise<SnapshotTaken> {
    this.calls.push(`snapshot ${order.instance} ${order.keepRunning ? 'and runs on' : 'and sleeps'}`);
    // As snapd: a repeated order for one that sleeps gets the first one's result.
    if (!order.keepRunning && existsSync(order.snapshotPath)) return this.taken(order);
    const found = this.instances.get(order.instance);
    if (found === undefined) throw new Failure('no-such-instance', `there is no ${order.instance}`);
    if (found.frozen) throw new Failure('snapshot-failed', 'it stands still');
    if (this.failSnapshot !== '') throw new Failure('snapshot-failed', this.failSnapshot);
    await this.holdSnapshot;
    if (existsSync(order.snapshotPath)) throw new Failure('snapshot-exists', `${order.snapshotPath} exists`);
    const env = 'env' in found.order ? found.order.env : {};
    const port = env['PORT'] ?? String((found.server?.address() as { port: number } | null)?.port ?? 0);
    const beside = `${order.snapshotPath}.new`;
    mkdirSync(beside, { recursive: true });
    const image = JSON.stringify({ requests: found.requests, port, salt: randomBytes(8).toString('hex') }).padEnd(this.sealedBytes);
    writeFileSync(join(beside, createHash('sha256').update(image).digest('hex')), image);
    mkdirSync(dirname(order.snapshotPath), { recursive: true });
    renameSync(beside, order.snapshotPath);
    if (!order.keepRunning) {
      this.instances.delete(order.instance);
      closeServer(found);
      for (const peer of this.peers) peer.tell('exited', { instance: order.instance, counters: { cpuNs: 1, memoryBytes: 1 }, status: 'snapshotted' });
    }
    return this.taken(order);
  }
}

/** What begins to listen a moment later does not: it would keep the test's process alive. */
function closeServer(instance: FakeInstance): void {
  instance.ended = true;
  instance.server?.closeAllConnections();
  instance.server?.close();
}

function listen(instance: FakeInstance, port: string, status: number): Promise<void> {
  if (instance.ended) return Promise.resolve();
  const server = createServer((asked, answer) => {
    const now = (): void => {
      instance.requests += 1;
      instance.asked.push(asked.url ?? '');
      answer.writeHead(asked.url?.startsWith('/failing') ? 503 : status, { 'x-instance': instance.running.instance });
      answer.end(`${instance.requests}`);
    };
    if (instance.frozen) instance.stalled.push(now);
    else now();
  });
  instance.server = server;
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(Number(port), instance.running.address, resolve);
  });
}

export interface FakeAnswer {
  readonly status: number;
  readonly instance: string;
  readonly body: string;
}

/** A dispatcher that holds requests until a route has an instance, and tells its demand. */
export class FakeDispatcher {
  readonly routes = new Map<string, Route>();
  private readonly waiting = new Map<string, Set<() => void>>();
  private readonly outstanding = new Map<string, number>();
  private readonly lastActive = new Map<string, number>();
  private readonly totals = new Map<string, number>();
  private readonly draining = new Set<string>();
  private readonly answers = new Map<string, AnswerCounts>();
  private readonly clock = openClock();
  private readonly link: ReturnType<typeof connectToPeer>;
  readonly epoch = `epoch-${process.pid}-${Math.random()}`;

  constructor(folder: string) {
    const handlers: Handlers = {
      routes: (routes: readonly Route[]) => {
        this.greeted = true;
        this.routes.clear();
        for (const route of routes) this.take(route);
        for (const route of routes) this.tell(route.owner);
      },
      route: (route: Route) => this.take(route),
      removeRoute: (owner: Owner) => {
        this.routes.delete(ownerKey(owner));
        this.wakeAll(ownerKey(owner));
      },
      drain: (order: { instance: string; park: boolean; timeoutMs: number }) => this.drain(order),
      keepConnections: (order: { keeps: boolean }) => void (this.keepsConnections = order.keeps),
      unpark: (order: { instance: string }) => {
        this.draining.delete(order.instance);
        for (const key of this.waiting.keys()) this.wakeAll(key);
      },
    } as Handlers;
    this.link = connectToPeer(join(folder, 'head.sock'), handlers, { log: quietLog, onDown: () => (this.greeted = false) });
  }

  /** What the head said last. */
  keepsConnections = true;
  /** The head has told it its routes since it last connected. */
  greeted = false;

  stop(): void {
    this.link.stop();
  }

  route(app: string): Route | undefined {
    return [...this.routes.values()].find((route) => route.owner.app === app && !isCanary(route.owner));
  }

  tellSuspect(instance: string): void {
    this.link.tell('suspect', { instance, reason: 'it refused the connection' });
  }

  /** An exchange at that instance, until the returned function is called. */
  begin(owner: Owner, instance: string): () => void {
    const add = (count: number): void => {
      this.outstanding.set(instance, (this.outstanding.get(instance) ?? 0) + count);
      this.lastActive.set(instance, this.clock.bootNs());
      this.tell(owner);
    };
    add(1);
    return () => add(-1);
  }

  /** Tells totals of answers of an app. */
  answered(owner: Owner, counts: AnswerCounts): void {
    this.answers.set(ownerKey(owner), counts);
    this.tell(owner);
  }

  /** A request of an end user; held while no instance is there. */
  async ask(app: string, holdMs = 10_000): Promise<FakeAnswer> {
    const untilMs = performance.now() + holdMs;
    for (;;) {
      // A test that asks in a loop must not keep everybody else from working.
      await new Promise((resolve) => setImmediate(resolve));
      const route = this.route(app);
      if (route === undefined) return { status: 404, instance: '', body: '' };
      if (route.status === 'failed') return { status: 503, instance: '', body: route.reason };
      const [open] = route.instances
        .filter(({ instance }) => !this.draining.has(instance))
        .toSorted((a, b) => (this.outstanding.get(a.instance) ?? 0) - (this.outstanding.get(b.instance) ?? 0));
      if (open !== undefined) return this.forward(route, open);
      if (performance.now() > untilMs) return { status: 503, instance: '', body: 'not in time' };
      await this.hold(route, untilMs - performance.now());
    }
  }

  private async forward(route: Route, to: Route['instances'][number]): Promise<FakeAnswer> {
    const { instance } = to;
    this.outstanding.set(instance, (this.outstanding.get(instance) ?? 0) + 1);
    this.totals.set(instance, (this.totals.get(instance) ?? 0) + 1);
    this.lastActive.set(instance, this.clock.bootNs());
    this.tell(route.owner);
    try {
      return await fetchFrom(to);
    } finally {
      this.outstanding.set(instance, (this.outstanding.get(instance) ?? 1) - 1);
      this.lastActive.set(instance, this.clock.bootNs());
      this.tell(route.owner);
    }
  }

  private hold(route: Route, leftMs: number): Promise<void> {
    const key = ownerKey(route.owner);
    return new Promise((resolve) => {
      const waiting = this.waiting.get(key) ?? new Set();
      this.waiting.set(key, waiting);
      const leave = (): void => {
        clearTimeout(timer);
        waiting.delete(leave);
        resolve();
      };
      const timer = setTimeout(leave, leftMs);
      waiting.add(leave);
      this.tell(route.owner);
    });
  }

  private take(route: Route): void {
    this.routes.set(ownerKey(route.owner), route);
    if (route.status === 'failed' || route.instances.length > 0) this.wakeAll(ownerKey(route.owner));
  }

  private wakeAll(key: string): void {
    for (const leave of this.waiting.get(key) ?? []) leave();
  }

  private async drain(order: { instance: string; timeoutMs: number }): Promise<{ drained: boolean }> {
    this.draining.add(order.instance);
    const untilMs = performance.now() + order.timeoutMs;
    while ((this.outstanding.get(order.instance) ?? 0) > 0) {
      if (performance.now() > untilMs) {
        this.draining.delete(order.instance);
        return { drained: false };
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    return { drained: true };
  }

  private tell(owner: Owner): void {
    const route = this.routes.get(ownerKey(owner));
    const demand: Demand = {
      owner,
      waiting: this.waiting.get(ownerKey(owner))?.size ?? 0,
      instances: (route?.instances ?? []).map(({ instance }) => ({
        instance,
        outstanding: this.outstanding.get(instance) ?? 0,
        tunnels: 0,
        lastActiveBootNs: this.lastActive.get(instance) ?? 0,
      })),
      epoch: this.epoch,
      answers: this.answers.get(ownerKey(owner)) ?? { answered: 0, failed: 0 },
      traffic: [...this.totals].map(([instance, requests]) => ({ instance, requests, bytesIn: 0, bytesOut: 0 })),
    };
    this.link.tell('demand', demand);
  }
}

function fetchFrom(to: { address: string; port: number }): Promise<FakeAnswer> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: to.address, port: to.port, path: '/', agent: false }, (response) => {
      let body = '';
      response.on('data', (bytes: Buffer) => (body += bytes.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, instance: String(response.headers['x-instance']), body }));
    });
    asked.on('error', reject);
    asked.end();
  });
}
