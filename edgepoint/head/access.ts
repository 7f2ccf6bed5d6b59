import { connect } from 'node:net';
import type { Bus } from '../../host/bus.ts';
import { SocketStream } from '../../host/socket-stream.ts';
import type { Clock } from '../../kit/clock.ts';
import { Failure, codeOf } from '../../kit/errors.ts';
import { ownerKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { nsPerMs } from '../../kit/units.ts';
import { encodeFrame, numbered, readFrame, readNumbered } from '../../kit/wire/access.ts';
import type { AccessFrame, AccessOpen } from '../../kit/wire/access.ts';
import type { SessionOrder } from '../../kit/wire/session.ts';
import { accessSubject } from '../../kit/wire/subjects.ts';
import { Accesses } from '../access/accesses.ts';
import type { Dialled, DialPorts } from '../access/accesses.ts';
import { Pace } from '../access/pace.ts';
import type { SessionCalls } from '../model/calls.ts';
import { enterOrder, heldOrder } from '../model/orders.ts';
import type { DispatcherPort } from '../resources/ports.ts';
import { noteAccess } from '../resources/note-access.ts';
import { startPreparation } from '../resources/preparations.ts';
import { routeOf } from '../resources/routes.ts';
import type { ResourceManager } from '../resources/run.ts';
import type { PerfLink } from './perf-link.ts';
import { dialSession } from './session-dial.ts';
import type { Entered } from './session-dial.ts';
import { sleepMs } from './timers.ts';

/** What all accesses together may carry: they pass through the head, which has other things to do, and over the bus. */
const bytesPerSecondMax = 32 * 1024 * 1024;
/** An instance is one hop away: whoever has not answered by then never does. */
const dialMsMax = 10_000;

export interface AccessLink extends DispatcherPort {
  begin(): void;
  stop(): void;
}

/** Accesses over the bus, to connections that the head makes to its instances as it makes those of a probe. */
export function openAccesses(about: { bus: Bus; site: Site; clock: Clock; epoch: string; sessions: SessionCalls; manager: () => ResourceManager; perf: () => PerfLink }): AccessLink {
  const { bus, site, clock, epoch, sessions, manager, perf } = about;
  const numbers = new Map<string, number>();
  const pace = new Pace(bytesPerSecondMax);
  const nowMs = (): number => clock.bootNs() / nsPerMs;
  const send = (access: string, frame: AccessFrame): boolean => {
    const number = numbers.get(access) ?? 0;
    if (frame.kind === 'close') numbers.delete(access);
    else numbers.set(access, (number + 1) % 2 ** 32);
    return bus.publish(accessSubject(site, 'from', access), numbered(number, encodeFrame(frame)));
  };
  /** Only what serves is in the route table. */
  const enter = async (open: AccessOpen, session: SessionOrder, instance: string): Promise<Entered> => {
    const app = manager().state.apps.get(ownerKey(open));
    const release = app?.instances.get(instance)?.facts.release;
    const order = [app?.serving?.order, app?.desired].find((one) => one?.release === release);
    if (order === undefined || order === null) throw new Failure('instance-ended', `instance ${instance} has ended, or another release is about to take its place`);
    return { ...(await sessions.enter(enterOrder(order, instance, session))), instance, end: () => undefined };
  };
  /** In an instance of its own, of the release that serves, which ends with it. */
  const run = async (open: AccessOpen, session: SessionOrder): Promise<Entered> => {
    const app = manager().state.apps.get(ownerKey(open));
    const order = app?.serving?.order;
    if (app === undefined || order === undefined) throw new Failure('app-away', 'no release of the app serves at this edgepoint');
    if (app.capStop !== null) throw new Failure(app.capStop.code, app.capStop.reason);
    const { instance, end } = await startPreparation(manager(), heldOrder(order), 'run', { kind: 'boot', address: null }, sleepMs);
    try {
      return { ...(await sessions.enter(enterOrder(order, instance, session))), instance, end: () => void end() };
    } catch (failure) {
      await end();
      throw failure;
    }
  };
  const accesses = new Accesses({
    epoch,
    routeOf: (owner) => {
      const app = manager().state.apps.get(ownerKey(owner));
      return app === undefined ? null : routeOf(app, clock.bootNs());
    },
    tellUse: (owner, use) => noteAccess(manager(), owner, use),
    tellTraffic: (owner, { instance, epoch, bytesIn, bytesOut }) => perf().traffic({ owner, waiting: 0, instances: [], epoch, traffic: [{ instance, requests: 0, bytesIn, bytesOut }] }),
    send,
    dial: (to, open, ports) => {
      const paced = { ...ports, pace: (bytes: number) => pace.waitMs(bytes, nowMs()) };
      if (open.session === undefined) return dial({ instance: to?.instance ?? '', address: to?.address ?? '', port: open.port ?? 0 }, paced);
      const { session } = open;
      return dialSession(() => (to === null ? run(open, session) : enter(open, session, to.instance)), session.timeoutSeconds ?? null, paced);
    },
    nowMs,
    after: (ms, callback) => {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
  });
  let subscription: { stop(): void } | null = null;
  const prefix = accessSubject(site, 'to', '');
  return {
    begin: () => {
      subscription ??= bus.subscribeBytes(accessSubject(site, 'to', '*'), (subject, bytes) => {
        const read = readNumbered(bytes);
        if (read === null) return;
        const access = subject.slice(prefix.length);
        accesses.take(access, read.number, readFrame(read.frame));
      });
    },
    stop: () => {
      subscription?.stop();
      accesses.stop();
    },
    route: (route) => accesses.route(route),
    removeRoute: (owner) => accesses.removeRoute(owner),
    drain: ({ instance, timeoutMs }) => {
      const app = manager().state.appOf.get(instance);
      return app === undefined ? Promise.resolve(true) : accesses.drain({ instance, owner: app.owner, timeoutMs });
    },
    unpark: (instance) => Promise.resolve(accesses.unpark(instance)),
  };
}

/** Frames that come before the connection is there wait in the socket. */
function dial(to: { instance: string; address: string; port: number }, ports: DialPorts & { pace(bytes: number): number }): Dialled {
  const socket = connect({ host: to.address, port: to.port, allowHalfOpen: true });
  let isOpen = false;
  let cutBefore = false;
  const stream = new SocketStream(socket, {
    send: (frame) => {
      // Why it could not be opened is told better below.
      if (!isOpen && !cutBefore && frame.kind === 'close') return;
      ports.send(frame);
    },
    pace: ports.pace,
    counted: ports.counted,
    over: (close) => {
      clearTimeout(timer);
      ports.over(close);
    },
  });
  const refused = (why: string): void => {
    ports.send({ kind: 'close', close: { code: 'port-silent', text: `port ${to.port} of the instance does not answer (${why}); a program that listens on 127.0.0.1 alone cannot be reached` } });
  };
  socket.once('connect', () => {
    isOpen = true;
    clearTimeout(timer);
    ports.opened(to.instance);
  });
  socket.prependOnceListener('error', (error) => {
    if (!isOpen && !cutBefore) refused(codeOf(error));
  });
  const timer = setTimeout(() => {
    cutBefore = true;
    stream.cut({ code: 'port-silent', text: `port ${to.port} of the instance does not answer within ${dialMsMax / 1000} s` });
  }, dialMsMax);
  return {
    take: (frame) => stream.take(frame),
    cut: (close) => {
      cutBefore = true;
      stream.cut(close);
    },
  };
}
