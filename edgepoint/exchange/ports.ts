import type { Site } from '../../kit/ids.ts';
import type { ExchangeCalls } from '../model/exchange.ts';
import type { Storable, Stored } from './plan.ts';

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

/** What was put into the store, written before it is begun. Durable when a call returns. */
export interface StoredRecords {
  stored(): Promise<readonly Stored[]>;
  saveStored(stored: Stored): Promise<void>;
  forgetStored(name: string): Promise<void>;
}

/** A template of this edgepoint with all that an offer of it says. */
export interface StorableTemplate extends Storable {
  readonly offer: Omit<Parameters<ExchangeCalls['offer']>[0], 'sites'>;
}

export interface ExchangeSurroundings {
  readonly objects: TemplateObjects;
  readonly calls: ExchangeCalls;
  /** Removes what lies at a template's path; absent is success. */
  discard(snapshotPath: string): Promise<void>;
  warn(text: string, fields: Record<string, unknown>): void;
}
