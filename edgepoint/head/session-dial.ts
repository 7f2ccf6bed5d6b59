import { connect } from 'node:net';
import { SocketStream } from '../../host/socket-stream.ts';
import { codeOf, messageOf } from '../../kit/errors.ts';
import type { AccessClose } from '../../kit/wire/access.ts';
import type { Dialled, DialPorts } from '../access/accesses.ts';

/** A session in which neither side says anything for so long is ended: it keeps its instance awake, which costs its provider. */
export const sessionIdleMsMax = 30 * 60 * 1000;

/** A session in an instance, once `enter` says where it waits. */
export function dialSession(enter: () => Promise<{ socketPath: string }>, ports: DialPorts & { pace(bytes: number): number }): Dialled {
  let stream: SocketStream | null = null;
  let over = false;
  const finish = (close: AccessClose, tell: boolean): void => {
    if (over) return;
    over = true;
    if (tell) ports.send({ kind: 'close', close });
    ports.over(close);
  };
  const begin = (socketPath: string): void => {
    // When it was cut meanwhile, the box waits for nobody, and ends.
    if (over) return;
    const socket = connect({ path: socketPath, allowHalfOpen: true });
    const idle = setTimeout(() => stream?.cut({ code: 'session-idle', text: `nothing was said for ${sessionIdleMsMax / 60_000} minutes` }), sessionIdleMsMax);
    stream = new SocketStream(socket, {
      send: ports.send,
      pace: ports.pace,
      counted: (toInstance, fromInstance) => {
        idle.refresh();
        ports.counted(toInstance, fromInstance);
      },
      over: (close) => {
        clearTimeout(idle);
        finish(close, false);
      },
    });
    socket.once('connect', ports.opened);
  };
  enter().then(
    ({ socketPath }) => begin(socketPath),
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
