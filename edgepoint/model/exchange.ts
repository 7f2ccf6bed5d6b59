import type { Owner, Site } from '../../kit/ids.ts';

/** A template that an edgepoint wants, made here or elsewhere. */
export interface WantedTemplate {
  readonly owner: Owner;
  readonly release: number;
  /** Names all that a template depends on of a release: artefact, manifest, uids. A release number alone may come again, after an app was deleted. */
  readonly orderDigest: string;
}

/** What an edgepoint says of a template that others may use. */
export interface OfferOrder extends WantedTemplate {
  readonly snapshotPath: string;
  readonly imageBytes: number;
  /** Measured where it was made, from the order to the first answer. */
  readonly coldBootMs: number;
  /** Edgepoints that may open it. Those whose keys this edgepoint does not know are left out. */
  readonly sites: readonly string[];
}

/** An offer, weighed by what it says; nothing of the template has been seen yet. */
export type WeighedOffer =
  | { readonly usable: true; readonly name: string; readonly bytes: number; readonly imageBytes: number; readonly coldBootMs: number }
  /** A sentence that goes on from "it cannot be used here: ". */
  | { readonly usable: false; readonly reason: string };

export interface AdmitOrder {
  /** The offer as it was read from the store, and whose store that was. */
  readonly offer: string;
  readonly from: Site;
  readonly wanted: WantedTemplate;
  /** What was fetched. It is read only. */
  readonly file: string;
  /** A folder that does not exist yet, as in `SnapshotOrder`. */
  readonly snapshotPath: string;
}

/** snapd, which holds the keys: what leaves an edgepoint for others, and what comes in. Each call may be repeated. */
export interface ExchangeCalls {
  /** The text of an offer, signed, with the template's key wrapped for each of the sites; `granted` says for which. */
  offer(order: OfferOrder): Promise<{ readonly text: string; readonly granted: readonly string[] }>;
  /** A piece of a sealed template, in base64; shorter than asked for at its end. */
  readSealed(order: { snapshotPath: string; from: number; bytes: number }): Promise<{ readonly base64: string }>;
  weigh(order: { offer: string; from: Site; wanted: WantedTemplate }): Promise<WeighedOffer>;
  /**
   * Verifies all of a fetched template and makes it this edgepoint's own: sealed by its keys, complete at the ordered path. What is not
   * exactly what was offered is refused (`snapshot-refused`), and nothing is left.
   */
  admit(order: AdmitOrder): Promise<{ readonly snapshotPath: string; readonly bytes: number }>;
}

/** Bytes of one piece: base64 of it fits into a line of a call. */
export const pieceBytesMax = 1024 * 1024;
/** An offer is a few hundred bytes and as many for each edgepoint that may open it. */
export const offerBytesMax = 256 * 1024;
