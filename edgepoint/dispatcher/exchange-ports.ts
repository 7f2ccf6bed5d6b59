import type { OwnAnswer } from './answers.ts';
import type { AppState, InstanceState } from './fleet.ts';
import type { ClientFacts, ResponseWay } from './forward.ts';
import type { RequestHead } from './request-head.ts';
import type { ResponseHead } from './response-head.ts';
import type { Switchboard } from './switchboard.ts';
import type { Tunnel, TunnelClient } from './tunnel.ts';
import type { UpstreamConnection, UpstreamUser } from './upstream-connection.ts';

/** The client connection as one of its exchanges sees it. */
export interface ExchangeClient extends TunnelClient {
  readonly facts: ClientFacts;
  /** Its protocol delimits bodies in frames of its own: chunks are taken off answers. */
  readonly frames: boolean;
  /** The client has ended its side. */
  readonly ended: boolean;
  /** Bytes that came after the head and belong to nobody yet. */
  takeInput(): Buffer | null;
  putBack(rest: Buffer): void;
  setReading(on: boolean): void;
  /** Whether the client may ask for this host where it asks; false when its certificate is another's (RFC 9110, section 7.4). */
  mayAsk(hostName: string): boolean;
  interim(head: ResponseHead): void;
  /** The final answer's head, and the first of its body; `done`: that is all of it. */
  final(head: ResponseHead, way: ResponseWay, pieces: readonly Buffer[], done: boolean): void;
  body(pieces: readonly Buffer[], done: boolean): void;
  ownAnswer(answer: OwnAnswer, request: RequestHead, keepAlive: boolean): void;
  /** Sends something that only a client which is still there takes. */
  askWhetherThere(): void;
  /** The exchange is over; without `keepAlive` the connection closes after what is queued. `whole`: all of the answer was given. */
  exchangeOver(keepAlive: boolean, whole: boolean): void;
  tunnelOpened(tunnel: Tunnel): void;
  /** Cuts the connection: the client must see that its answer is not whole. */
  cut(): void;
}

/** Where requests of plain HTTP may be sent instead. */
export interface HttpsPort {
  readonly port: number;
  /** For every app whose route says nothing of it. */
  readonly always: boolean;
  /** Whether there is a certificate for that host: nobody is sent where no handshake can succeed. */
  has(hostName: string): boolean;
}

/** What an exchange needs of its surroundings. */
export interface ExchangePorts {
  readonly switchboard: Switchboard;
  readonly nowMs: () => number;
  connect(instance: InstanceState, user: UpstreamUser): UpstreamConnection;
  /** False while the dispatcher is about to stop. */
  keepsConnections(): boolean;
  readonly https: HttpsPort | null;
  /** What to answer an authority that asks for a challenge under way; null: it is a request like any other. */
  challenge(hostName: string, target: string): string | null;
  answered(app: AppState | null, status: number): void;
}
