import type { Peer, PeerConnection } from '../../host/calls.ts';
import { Failure, codeOf } from '../../kit/errors.ts';
import type { Owner } from '../../kit/ids.ts';
import type { ExchangeCalls } from '../model/exchange.ts';
import type { VolumeCalls } from '../model/volumes.ts';
import type { CertificateOrder, ChallengeOrder } from '../model/certificates.ts';
import type { FreezeTaken, ImageCalls, KernelCounters, MessageOrder, RestoredCalls, Route, RunningInstance, SecretsCalls, SessionCalls, SnapdCalls, SnapshotTaken, TaskAnswer, TaskOrder } from '../model/calls.ts';
import type { DispatcherPort } from '../resources/ports.ts';

/** A daemon that was killed under a call is asked again when it is back: every call of restored may be repeated. */
const repeatsMax = 5;
const startTimeoutMs = 120_000;
const stopTimeoutMs = 30_000;
/** Gigabytes at a few hundred megabytes a second, on a machine that has other things to do. */
const freezeTimeoutMs = 300_000;
const snapshotTimeoutMs = 300_000;
/** Longer than snapd lets it take. */
const unpackTimeoutMs = 1_000_000;
/** The dispatcher has time-outs of its own; an app may go on answering for as long as it likes to, but nobody waits for ever. */
const askTimeoutMs = 3_600_000;

type Call = (method: string, params: unknown, options: { timeoutMs: number }) => Promise<unknown>;

async function repeated(call: Call, method: string, params: unknown, timeoutMs: number): Promise<unknown> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await call(method, params, { timeoutMs });
    } catch (failure) {
      if (codeOf(failure) !== 'peer-gone' || tries > repeatsMax) throw failure;
    }
  }
}

/** restored, over its socket. */
export function restoredOver(connection: Pick<PeerConnection, 'call'>): RestoredCalls {
  const call: Call = (method, params, options) => connection.call(method, params, options);
  return {
    boot: async (order) => (await repeated(call, 'boot', order, startTimeoutMs)) as RunningInstance,
    restore: async (order) => (await repeated(call, 'restore', order, startTimeoutMs)) as RunningInstance,
    stop: async (order) => (await repeated(call, 'stop', order, stopTimeoutMs)) as KernelCounters | null,
    freeze: async (order) => (await repeated(call, 'freeze', order, freezeTimeoutMs)) as FreezeTaken,
    thaw: async (order) => (await repeated(call, 'thaw', order, stopTimeoutMs)) as { tookMs: number },
    list: async () => (await repeated(call, 'list', {}, stopTimeoutMs)) as readonly RunningInstance[],
  };
}

/** restored's part in keeping secrets, over its socket. */
export function secretsOver(connection: Pick<PeerConnection, 'call'>): SecretsCalls {
  return { opens: async () => (await repeated((method, params, options) => connection.call(method, params, options), 'opens', {}, stopTimeoutMs)) as string };
}

/** restored's sessions, over its socket: one that was killed under an order has ended what it began. */
export function sessionsOver(connection: Pick<PeerConnection, 'call'>): SessionCalls {
  return { enter: async (order) => (await connection.call('enter', order, { timeoutMs: stopTimeoutMs })) as { socketPath: string } };
}

/** snapd, over its socket. A snapshot that ends its instance may be repeated; one of an instance that runs on begins anew with its deploy. */
export function snapdOver(connection: Pick<PeerConnection, 'call'>): SnapdCalls {
  const call: Call = (method, params, options) => connection.call(method, params, options);
  return {
    snapshot: async (order) => {
      const taken = order.keepRunning ? call('snapshot', order, { timeoutMs: snapshotTimeoutMs }) : repeated(call, 'snapshot', order, snapshotTimeoutMs);
      return (await taken) as SnapshotTaken;
    },
    discard: async (order) => void (await repeated(call, 'discard', order, stopTimeoutMs)),
  };
}

/** snapd's part in bringing an image, over its socket. */
export function imagesOver(connection: Pick<PeerConnection, 'call'>): ImageCalls {
  const call: Call = (method, params, options) => connection.call(method, params, options);
  return {
    unpackImage: async (order) => (await repeated(call, 'unpackImage', order, unpackTimeoutMs)) as { tookMs: number },
    removeImage: async (order) => void (await repeated(call, 'removeImage', order, unpackTimeoutMs)),
  };
}

/** snapd's part in the exchange of templates, over its socket. */
export function exchangeOver(connection: Pick<PeerConnection, 'call'>): ExchangeCalls {
  const call: Call = (method, params, options) => connection.call(method, params, options);
  return {
    offer: async (order) => (await repeated(call, 'offer', order, stopTimeoutMs)) as Awaited<ReturnType<ExchangeCalls['offer']>>,
    readSealed: async (order) => (await repeated(call, 'readSealed', order, stopTimeoutMs)) as { base64: string },
    weigh: async (order) => (await repeated(call, 'weigh', order, stopTimeoutMs)) as Awaited<ReturnType<ExchangeCalls['weigh']>>,
    // Not repeated: what one that was killed had done is not known.
    admit: async (order) => (await call('admit', order, { timeoutMs: snapshotTimeoutMs })) as { snapshotPath: string; bytes: number },
  };
}

/** snapd's part in snapshots of volumes, over its socket. None is repeated: what one that was killed had done is not known. */
export function volumesOver(connection: Pick<PeerConnection, 'call'>): VolumeCalls {
  const call =
    <Name extends keyof VolumeCalls>(name: Name, timeoutMs: number) =>
    async (order: Parameters<VolumeCalls[Name]>[0]): Promise<Awaited<ReturnType<VolumeCalls[Name]>>> =>
      (await connection.call(name, order, { timeoutMs })) as Awaited<ReturnType<VolumeCalls[Name]>>;
  return {
    volumeUse: call('volumeUse', stopTimeoutMs),
    copyVolume: call('copyVolume', unpackTimeoutMs),
    readVolumeCopy: call('readVolumeCopy', stopTimeoutMs),
    discardVolumeCopy: call('discardVolumeCopy', stopTimeoutMs),
    changeCatalogue: call('changeCatalogue', stopTimeoutMs),
    admitVolume: call('admitVolume', unpackTimeoutMs),
    swapVolume: call('swapVolume', stopTimeoutMs),
  };
}

/** The local dispatcher is whoever connects to us and takes our routes; the newest one counts. */
export class DispatcherLink implements DispatcherPort {
  private peer: Peer | null = null;
  /** Asked whether they are dispatchers: until they have answered, what is ordered goes to them too. */
  private readonly greeted = new Set<Peer>();
  private keeps = true;
  private readonly onFault: (method: string, failure: unknown) => void;

  constructor(onFault: (method: string, failure: unknown) => void) {
    this.onFault = onFault;
  }

  get up(): boolean {
    return this.peer !== null;
  }

  async greet(peer: Peer, routes: readonly Route[], onGone: () => void): Promise<boolean> {
    this.greeted.add(peer);
    try {
      await peer.call('routes', routes);
    } catch (failure) {
      // `edgepoint status` and its like take no routes.
      if (codeOf(failure) !== 'no-such-call' && codeOf(failure) !== 'peer-gone') this.onFault('routes', failure);
      return false;
    } finally {
      this.greeted.delete(peer);
    }
    this.peer = peer;
    if (!this.keeps) this.keepConnections(false);
    void peer.closed.then(() => {
      if (this.peer !== peer) return;
      this.peer = null;
      onGone();
    });
    return true;
  }

  route(route: Route): void {
    this.order('route', route);
  }

  removeRoute(owner: Owner): void {
    this.order('removeRoute', owner);
  }

  async drain(order: { instance: string; park: boolean; timeoutMs: number }): Promise<boolean> {
    const { peer } = this;
    if (peer === null) return false;
    try {
      const marginMs = 5000;
      const answer = (await peer.call('drain', order, { timeoutMs: order.timeoutMs + marginMs })) as { drained: boolean };
      return answer.drained;
    } catch (failure) {
      if (codeOf(failure) !== 'peer-gone') this.onFault('drain', failure);
      return false;
    }
  }

  async unpark(instance: string): Promise<void> {
    const { peer } = this;
    if (peer === null) return;
    try {
      await peer.call('unpark', { instance });
    } catch (failure) {
      if (codeOf(failure) !== 'peer-gone') this.onFault('unpark', failure);
    }
  }

  /** Waits for a dispatcher that was killed to come back; one that is killed meanwhile is not asked again. Failure `peer-gone` otherwise. */
  async ask(order: TaskOrder | MessageOrder, sleepMs: (ms: number) => Promise<void>): Promise<TaskAnswer> {
    for (let waits = 0; this.peer === null && waits < 50; waits += 1) await sleepMs(200);
    if (this.peer === null) throw new Failure('peer-gone', 'the local dispatcher is not there');
    return (await this.peer.call('ask', order, { timeoutMs: askTimeoutMs })) as TaskAnswer;
  }

  /** Whether connections of clients go on after an answer; told again to a dispatcher that comes. */
  keepConnections(keeps: boolean): void {
    this.keeps = keeps;
    this.order('keepConnections', { keeps });
  }

  certificate(order: CertificateOrder): void {
    this.order('certificate', order);
  }

  certificates(names: readonly string[]): void {
    this.order('certificates', { names });
  }

  challenge(order: ChallengeOrder): void {
    this.order('challenge', order);
  }

  private order(method: string, params: unknown): void {
    for (const peer of new Set([...(this.peer === null ? [] : [this.peer]), ...this.greeted])) {
      peer.call(method, params).catch((failure: unknown) => {
        const expected = codeOf(failure) === 'peer-gone' || (codeOf(failure) === 'no-such-call' && peer !== this.peer);
        if (!expected) this.onFault(method, failure);
      });
    }
  }
}
