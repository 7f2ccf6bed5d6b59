import type { Site } from '../../kit/ids.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import type { WakeBy } from '../model/app.ts';
import type { ExchangeCalls, OfferOrder } from '../model/exchange.ts';
import type { Stored } from './plan.ts';

/** The object store, as an edgepoint may use it: it writes its own part and reads those of its zone. Failures are those of the bus. */
export interface TemplateObjects {
  /** The id names the content: what is there under it stays, and what was cut off is replaced. The offer is seen with the last of it, or not at all. */
  put(name: string, about: { id: string; content: () => ReadableStream<Uint8Array>; offer: () => Promise<string> }): Promise<void>;
  /** Whole or half; absent is success. */
  drop(name: string, id: string): Promise<void>;
  /** All that this edgepoint has there. */
  clear(): Promise<void>;
  /** Null when it is not there. */
  find(site: Site, name: string): Promise<{ readonly id: string; readonly offer: string; open(): ReadableStream<Uint8Array> } | null>;
}

/** A template as the database knows it, without the order of its release: all of them are looked at together. */
export interface TemplateRecord {
  /** provider.scope.app */
  readonly app: string;
  readonly release: number;
  readonly serves: boolean;
  readonly snapshotPath: string;
  readonly bytes: number;
  readonly offDisk: boolean;
  readonly wakeBy: WakeBy;
  readonly coldBootMs: number | null;
  readonly manifest: Pick<Manifest, 'state' | 'volume'>;
  /** `<zone>.<edgepoint>` of each edgepoint that hosts the release, as last wished. */
  readonly sites: readonly string[];
}

/** What was put into the store, written before it is begun. Durable when a call returns. */
export interface StoredRecords {
  /** Of all apps, whether or not they may be shared. */
  templates(): Promise<readonly TemplateRecord[]>;
  stored(): Promise<readonly Stored[]>;
  saveStored(stored: Stored): Promise<void>;
  forgetStored(name: string): Promise<void>;
}

/** All that an offer of a template says but who may open it. */
export type OfferFacts = Omit<OfferOrder, 'sites'>;

export interface ExchangeSurroundings {
  readonly objects: TemplateObjects;
  readonly calls: ExchangeCalls;
  /** Removes what lies at a template's path; absent is success. */
  discard(snapshotPath: string): Promise<void>;
  warn(text: string, fields: Record<string, unknown>): void;
}
