import type { AppState, InstanceState } from './fleet.ts';
import type { Outlet } from './outlet.ts';
import type { Switchboard } from './switchboard.ts';
import type { Tunnel, TunnelClient } from './tunnel.ts';
import type { UpstreamConnection, UpstreamUser } from './upstream-connection.ts';

/** The client connection as one of its exchanges sees it. */
export interface ExchangeClient extends TunnelClient {
  readonly address: string;
  readonly outlet: Outlet;
  /** The client has ended its side. */
  readonly ended: boolean;
  /** Bytes that came after the head and belong to nobody yet. */
  takeInput(): Buffer | null;
  putBack(rest: Buffer): void;
  setReading(on: boolean): void;
  /** The exchange is over; without `keepAlive` the connection closes after what is queued. */
  exchangeOver(keepAlive: boolean): void;
  tunnelOpened(tunnel: Tunnel): void;
  /** Cuts the connection: the client must see that its answer is not whole. */
  cut(): void;
}

/** What an exchange needs of its surroundings. */
export interface ExchangePorts {
  readonly switchboard: Switchboard;
  readonly nowMs: () => number;
  connect(instance: InstanceState, user: UpstreamUser): UpstreamConnection;
  /** False while the dispatcher is about to stop. */
  keepsConnections(): boolean;
  answered(app: AppState | null, status: number): void;
}
