import type { AppState, InstanceState, InstanceTunnel } from './fleet.ts';
import type { Outlet } from './outlet.ts';
import type { Switchboard } from './switchboard.ts';
import type { UpstreamConnection, UpstreamUser } from './upstream-connection.ts';

/** The client's side of a tunnel. */
export interface TunnelClient {
  readonly outlet: Outlet;
  setReading(on: boolean): void;
  /** Closes it after what is queued. */
  close(): void;
}

/**
 * Two sockets spliced after a 101, with backpressure and half-close both ways.
 *
 * Modes: flowing <-> parked ; either -> over. parked: the instance sleeps with its connections. Nothing is written to it; the first
 * bytes of the client are held and told as demand, then its socket is not read until the instance is back.
 */
export class Tunnel implements UpstreamUser, InstanceTunnel {
  private mode: 'flowing' | 'parked' | 'over' = 'flowing';
  private waits = false;
  private clientGoneWhileParked = false;
  private readonly client: TunnelClient;
  private readonly upstream: UpstreamConnection;
  private readonly app: AppState;
  private readonly instance: InstanceState;
  private readonly switchboard: Switchboard;

  constructor(of: { client: TunnelClient; upstream: UpstreamConnection; app: AppState; instance: InstanceState; switchboard: Switchboard }) {
    this.client = of.client;
    this.upstream = of.upstream;
    this.app = of.app;
    this.instance = of.instance;
    this.switchboard = of.switchboard;
    this.instance.tunnels.add(this);
    if (this.instance.way !== 'open' && this.instance.parked) this.park();
    this.switchboard.tunnelOpened(this.app);
  }

  // ---- the client's side ----

  fromClient(bytes: Buffer): void {
    if (this.mode === 'over') return;
    this.instance.bytesIn += bytes.length;
    this.switchboard.touched(this.app, this.instance);
    if (this.upstream.outlet.write(bytes)) return;
    this.client.setReading(false);
    if (this.mode === 'parked') this.setWaits(true);
  }

  clientEnded(): void {
    if (this.mode !== 'over') this.upstream.outlet.shutdown();
  }

  clientRoom(): void {
    if (this.mode !== 'over') this.upstream.resume();
  }

  /** The client's connection is gone. */
  clientGone(): void {
    if (this.mode === 'parked') this.clientGoneWhileParked = true;
    else this.finish(() => this.upstream.abort());
  }

  // ---- the instance's side ----

  opened(): void {}

  data(bytes: Buffer): void {
    this.instance.bytesOut += bytes.length;
    this.switchboard.touched(this.app, this.instance);
    if (!this.client.outlet.write(bytes)) this.upstream.pause();
  }

  ended(): void {
    this.client.outlet.shutdown();
  }

  closed(): void {
    this.finish(() => this.client.close());
  }

  room(): void {
    if (this.mode === 'flowing') this.client.setReading(true);
  }

  // ---- sleep and wake ----

  park(): void {
    if (this.mode !== 'flowing') return;
    this.mode = 'parked';
    this.upstream.outlet.hold();
    if (this.upstream.outlet.blocked) this.setWaits(true);
  }

  unpark(): void {
    if (this.mode !== 'parked') return;
    this.mode = 'flowing';
    this.setWaits(false);
    if (this.clientGoneWhileParked) return this.finish(() => this.upstream.abort());
    this.upstream.outlet.release();
    if (!this.upstream.outlet.blocked) this.client.setReading(true);
  }

  cut(): void {
    this.finish(() => {
      this.upstream.abort();
      this.client.close();
    });
  }

  private setWaits(waits: boolean): void {
    if (this.waits === waits) return;
    this.waits = waits;
    this.switchboard.tunnelWaits(this.app, waits);
  }

  private finish(act: () => void): void {
    if (this.mode === 'over') return;
    this.mode = 'over';
    this.setWaits(false);
    this.instance.tunnels.delete(this);
    this.switchboard.touched(this.app, this.instance);
    act();
    this.switchboard.tunnelClosed(this.app, this.instance);
  }
}
