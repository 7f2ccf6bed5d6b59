import { connect } from 'node:net';
import { SocketStream } from '../../host/socket-stream.ts';
import { codeOf, messageOf } from '../../kit/errors.ts';
import type { AccessClose } from '../../kit/wire/access.ts';
import type { Dialled, DialPorts } from '../access/accesses.ts';

/** A session in which neither side says anything for so long is ended: it keeps its instance awake, which costs its provider. */
export const sessionIdleMsMax = 30 * 60 * 1000;

export interface Entered {
  readonly socketPath: string;
  readonly instance: string;
  /** The session is over. */
  end(): void;
}

/** A session in an instance, once `enter` says where it waits; with `timeoutSeconds` it ends after so long, and otherwise when nothing is said for long. */
export function dialSession(enter: () => Promise<Entered>, timeoutSeconds: number | null, ports: DialPorts & { pace(bytes: number): number }): Dialled {
  let stream: SocketStream | null = null;
  let entered: Entered | null = null;
  let over = false;
  const finish = (close: AccessClose, tell: boolean): void => {
    if (over) return;
    over = true;
    entered?.end();
    if (tell) ports.send({ kind: 'close', close });
    ports.over(close);
  };
  const begin = ({ socketPath, instance }: Entered): void => {
    const socket = connect({ path: socketPath, allowHalfOpen: true });
    const close: AccessClose =
      timeoutSeconds === null
        ? { code: 'session-idle', text: `nothing was said for ${sessionIdleMsMax / 60_000} minutes` }
        : { code: 'run-timeout', text: `it has not ended within ${timeoutSeconds} s` };
    const timer = setTimeout(() => stream?.cut(close), timeoutSeconds === null ? sessionIdleMsMax : timeoutSeconds * 1000);
    stream = new SocketStream(socket, {
      send: ports.send,
      pace: ports.pace,
      counted: (toInstance, fromInstance) => {
        if (timeoutSeconds === null) timer.refresh();
        ports.counted(toInstance, fromInstance);
      },
      over: (close) => {
        clearTimeout(timer);
        finish(close, false);
      },
    });
    socket.once('connect', () => ports.opened(instance));
  };
  enter().then(
    (made) => {
      entered = made;
      // When it was cut meanwhile, the box finds nobody, and ends.
      if (over) made.end();
      else begin(made);
    },
    (thrown: unknown) => finish({ code: codeOf(thrown), text: messageOf(thrown) }, true),
  );
  return {
    take: (frame) => {
      if (stream !== null) stream.take(frame);
      else if (frame.kind === 'close') finish(frame.close, false);
      else finish({ code: 'access-broken', text: 'data came before it was open' }, true);
    },
    cut: (close) => (stream === null ? finish(close, true) : stream.cut(close)),
  };
}
