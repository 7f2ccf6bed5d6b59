import type { Bus } from '../../host/bus.ts';
import { siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { buckets } from '../../kit/wire/subjects.ts';
import { Queues } from '../queue/run.ts';
import type { QueuePorts } from '../queue/run.ts';

/** Follows this edgepoint's part of the bucket of messages, from `begin` on: by then it must be known what serves. */
export class QueueLink {
  private readonly bus: Bus;
  private readonly site: Site;
  private readonly queues: Queues;
  private watch: { stop(): void } | null = null;

  constructor(bus: Bus, site: Site, ports: Omit<QueuePorts, 'put' | 'drop'>) {
    this.bus = bus;
    this.site = site;
    this.queues = new Queues({
      ...ports,
      put: (key, text, after) => bus.putKv(buckets.queues, key, text, after),
      drop: (key, after) => bus.deleteKv(buckets.queues, key, after),
    });
  }

  async begin(): Promise<void> {
    this.watch = await this.bus.watchKv(buckets.queues, `${siteKey(this.site)}.>`, (key, text, place) => this.queues.take(key, text, place));
  }

  /** Another release of an app (`ownerKey`) serves. */
  serves(app: string): void {
    this.queues.serves(app);
  }

  stop(): void {
    this.watch?.stop();
    this.queues.stop();
  }
}
