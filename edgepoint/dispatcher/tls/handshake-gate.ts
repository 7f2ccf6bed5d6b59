/** How many TLS handshakes are let in. A handshake costs a signature, up to a millisecond, before anything is known of the client. */
export interface HandshakeBounds {
  /** Under way in all, and from one network. */
  readonly inAll: number;
  readonly perNetwork: number;
  /** Of one network: begun in a burst, and for each second afterwards. */
  readonly burst: number;
  readonly perSecond: number;
  /** Networks remembered; the one that has been quiet for longest is forgotten first. */
  readonly networks: number;
}

interface Network {
  underWay: number;
  /** May still be begun at `atMs`. */
  left: number;
  atMs: number;
}

/** Lets handshakes in, by the network they come from, so that one network that floods keeps only itself out. */
export class HandshakeGate {
  /** The quietest first. */
  private readonly networks = new Map<string, Network>();
  private readonly bounds: HandshakeBounds;
  underWay = 0;

  constructor(bounds: HandshakeBounds) {
    this.bounds = bounds;
  }

  /** '' when it may begin (`leave` must follow), else why not. */
  enter(network: string, nowMs: number): '' | 'all' | 'under-way' | 'rate' {
    const { inAll, perNetwork, burst, perSecond } = this.bounds;
    const known = this.networks.get(network) ?? { underWay: 0, left: burst, atMs: nowMs };
    this.networks.delete(network);
    this.networks.set(network, known);
    known.left = Math.min(burst, known.left + ((nowMs - known.atMs) * perSecond) / 1000);
    known.atMs = nowMs;
    this.forget();
    if (this.underWay >= inAll) return 'all';
    if (known.underWay >= perNetwork) return 'under-way';
    if (known.left < 1) return 'rate';
    known.left -= 1;
    known.underWay += 1;
    this.underWay += 1;
    return '';
  }

  leave(network: string): void {
    this.underWay -= 1;
    const known = this.networks.get(network);
    if (known !== undefined && known.underWay > 0) known.underWay -= 1;
  }

  get size(): number {
    return this.networks.size;
  }

  private forget(): void {
    for (const network of this.networks.keys()) {
      if (this.networks.size <= this.bounds.networks) return;
      this.networks.delete(network);
    }
  }
}
