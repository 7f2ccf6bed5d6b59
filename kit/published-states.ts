import { ownerKey, siteKey } from './ids.ts';
import { appStateMessage, edgepointStateMessage } from './wire/edgepoint-state.ts';
import type { AppStateEntry, EdgepointState } from './wire/edgepoint-state.ts';
import { parseMessage } from './wire/version.ts';

/** What is kept of an app's entry: at least whether it is of the present epoch. */
export interface KeptEntry {
  readonly epoch: string;
}

/** Of one edgepoint, hidden ones too; more would be hostile, and fill the memory of all who read. */
const appsMax = 100_000;

interface Published<App extends KeptEntry> {
  self: EdgepointState | null;
  readonly apps: Map<string, App>;
}

/**
 * What edgepoints have published in the bucket `state`, put together again. What is seen is a function of the newest entry of each
 * key alone, so it does not matter in which order they come, or how often: entries of apps that are gone are hidden rather than dropped.
 */
export class PublishedStates<App extends KeptEntry> {
  readonly #sites = new Map<string, Published<App>>();
  readonly #keep: (entry: AppStateEntry) => App;

  /** `keep` takes of an app's entry what is needed of it. */
  constructor(keep: (entry: AppStateEntry) => App) {
    this.#keep = keep;
  }

  /** Takes an entry (null: deleted). The reason when it cannot be used, else empty; an unusable one leaves the last good one. */
  take(key: string, text: string | null): string {
    const [zone = '', edgepoint = '', ...owner] = key.split('.');
    const site = siteKey({ zone, edgepoint });
    if (owner.length === 0) return this.#takeSelf(site, text);
    if (owner.length === 3) return this.#takeApp(site, owner.join('.'), text);
    return 'the key is neither of an edgepoint nor of an app there';
  }

  #takeSelf(site: string, text: string | null): string {
    if (text === null) {
      const published = this.#sites.get(site);
      if (published !== undefined) published.self = null;
      this.#forgetEmpty(site);
      return '';
    }
    const parsed = parseMessage(edgepointStateMessage, text);
    if (!parsed.ok) return parsed.reason;
    if (siteKey(parsed.value) !== site) return `the entry speaks of ${siteKey(parsed.value)}`;
    const published = this.#published(site);
    // The same text for the same epoch, rather than one more with each entry.
    published.self = { ...parsed.value, epoch: published.self?.epoch === parsed.value.epoch ? published.self.epoch : parsed.value.epoch };
    return '';
  }

  #takeApp(site: string, owner: string, text: string | null): string {
    if (text === null) {
      this.#sites.get(site)?.apps.delete(owner);
      this.#forgetEmpty(site);
      return '';
    }
    const parsed = parseMessage(appStateMessage, text);
    if (!parsed.ok) return parsed.reason;
    if (ownerKey(parsed.value) !== owner) return `the entry speaks of ${ownerKey(parsed.value)}`;
    const published = this.#published(site);
    if (published.apps.size >= appsMax && !published.apps.has(owner)) return `the edgepoint has ${appsMax} apps already`;
    const epoch = published.self?.epoch === parsed.value.epoch ? published.self.epoch : parsed.value.epoch;
    published.apps.set(owner, this.#keep({ ...parsed.value, epoch }));
    return '';
  }

  #published(site: string): Published<App> {
    const known = this.#sites.get(site);
    if (known !== undefined) return known;
    const published: Published<App> = { self: null, apps: new Map() };
    this.#sites.set(site, published);
    return published;
  }

  #forgetEmpty(site: string): void {
    const published = this.#sites.get(site);
    if (published?.self === null && published.apps.size === 0) this.#sites.delete(site);
  }

  /** Sites that have said something of themselves. */
  *sites(): Iterable<string> {
    for (const [site, { self }] of this.#sites) if (self !== null) yield site;
  }

  edgepoint(site: string): EdgepointState | null {
    return this.#sites.get(site)?.self ?? null;
  }

  /** `owner` is an `ownerKey`; null when the edgepoint does not have that app. */
  app(site: string, owner: string): App | null {
    const published = this.#sites.get(site);
    const app = published?.apps.get(owner);
    return app !== undefined && isSeen(published?.self ?? null, app) ? app : null;
  }

  /** The apps an edgepoint has, by `ownerKey`. */
  *apps(site: string): Iterable<readonly [string, App]> {
    const published = this.#sites.get(site);
    if (published === undefined) return;
    for (const entry of published.apps) if (isSeen(published.self, entry[1])) yield entry;
  }
}

/** While an edgepoint says all anew, what it said before stands until it is said again. */
function isSeen(self: EdgepointState | null, { epoch }: KeptEntry): boolean {
  return self !== null && (!self.complete || epoch === self.epoch);
}
