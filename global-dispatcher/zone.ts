import type { NameEntry } from '../kit/wire/desired.ts';
import { ownerKey } from '../kit/ids.ts';
import { hostKey, nameBytes, parentKey } from './wire/name.ts';

/** What never changes while the dispatcher runs. Names are keys as `hostKey` gives them. */
export interface ZoneIdentity {
  readonly apex: string;
  readonly nameserver: string;
  /** Mailbox in the SOA (RFC 1035 3.3.13), as a name. */
  readonly hostmaster: string;
  /** The dispatcher's own addresses, given out when its name lies in the zone. */
  readonly nameserverAddresses: readonly Uint8Array[];
  readonly ttlSeconds: number;
  /** How long a resolver may remember that a name or type does not exist (RFC 2308). */
  readonly negativeTtlSeconds: number;
}

export type Lookup =
  | { readonly kind: 'outside' | 'apex' | 'nameserver' | 'empty' | 'absent' }
  | { readonly kind: 'app'; readonly entry: NameEntry };

/** The names of apps by host, kept up to date one entry at a time; empty non-terminals are counted (RFC 8020: they exist). */
export class NameTable {
  readonly #identity: ZoneIdentity;
  readonly #entries = new Map<string, NameEntry>();
  /** Who claims a host; the smallest owner key has it, so that every dispatcher decides alike. */
  readonly #claims = new Map<string, string | readonly string[]>();
  #last: NameEntry | null = null;
  readonly #childrenOf = new Map<string, number>();

  constructor(identity: ZoneIdentity) {
    this.#identity = identity;
  }

  get apex(): string {
    return this.#identity.apex;
  }

  get entries(): ReadonlyMap<string, NameEntry> {
    return this.#entries;
  }

  /** Sets or replaces the entry of its owner, whose key it is under; returns the hosts that cannot be served, because they are no names below this zone's apex. */
  set(entry: NameEntry, owner = ownerKey(entry)): string[] {
    this.delete(owner);
    this.#entries.set(owner, this.#sharing(entry));
    const refused: string[] = [];
    for (const host of new Set(entry.hosts)) {
      const key = hostKey(host);
      if (key === null || !this.#isBelowApex(key) || key === this.#identity.nameserver) refused.push(host);
      else this.#claim(key, owner);
    }
    return refused;
  }

  delete(owner: string): void {
    const entry = this.#entries.get(owner);
    if (entry === undefined) return;
    this.#entries.delete(owner);
    for (const host of entry.hosts) this.#release(hostKey(host) ?? '', owner);
  }

  lookUp(key: string): Lookup {
    const { apex, nameserver } = this.#identity;
    if (key === apex) return { kind: 'apex' };
    if (!this.#isBelowApex(key)) return { kind: 'outside' };
    if (key === nameserver) return { kind: 'nameserver' };
    const claims = this.#claims.get(key);
    const owner = typeof claims === 'string' ? claims : claims?.[0];
    const entry = owner === undefined ? undefined : this.#entries.get(owner);
    if (entry !== undefined) return { kind: 'app', entry };
    return { kind: this.#childrenOf.has(key) || nameserver.endsWith(`.${key}`) ? 'empty' : 'absent' };
  }

  #isBelowApex(key: string): boolean {
    return key.endsWith(`.${this.#identity.apex}`);
  }

  /** Nearly every host is claimed by one: it stands there without a list. */
  #claimsOf(key: string): readonly string[] {
    const claims = this.#claims.get(key);
    return typeof claims === 'string' ? [claims] : (claims ?? []);
  }

  /** The same entry, with what it has in common with the one before: of thousands of apps most are of the same few edgepoints and providers. */
  #sharing(entry: NameEntry): NameEntry {
    const last = this.#last;
    const same = <Field extends 'provider' | 'scope'>(field: Field): string => (last?.[field] === entry[field] ? last[field] : entry[field]);
    const sites = last !== null && last.sites.join() === entry.sites.join() ? last.sites : entry.sites;
    this.#last = { ...entry, provider: same('provider'), scope: same('scope'), sites };
    return this.#last;
  }

  #claim(key: string, owner: string): void {
    const claims = this.#claimsOf(key);
    if (claims.includes(owner)) return;
    this.#claims.set(key, claims.length === 0 ? owner : [...claims, owner].sort());
    if (claims.length === 0) this.#countParents(key, 1);
  }

  #release(key: string, owner: string): void {
    const claims = this.#claimsOf(key);
    if (!claims.includes(owner)) return;
    const rest = claims.filter((claim) => claim !== owner);
    if (rest.length > 0) {
      this.#claims.set(key, rest);
      return;
    }
    this.#claims.delete(key);
    this.#countParents(key, -1);
  }

  #countParents(key: string, by: 1 | -1): void {
    for (let parent = parentKey(key); this.#isBelowApex(parent); parent = parentKey(parent)) {
      const count = (this.#childrenOf.get(parent) ?? 0) + by;
      if (count === 0) this.#childrenOf.delete(parent);
      else this.#childrenOf.set(parent, count);
    }
  }
}

/** RDATA of the zone's SOA. The serial is a label only: nothing transfers this zone yet. */
export function soaData(identity: ZoneIdentity, serial: number): Uint8Array {
  const numbers = new DataView(new ArrayBuffer(20));
  // Refresh, retry and expire speak to secondaries; these are RFC 1912 2.2's values.
  [serial, 3600, 600, 1_209_600, identity.negativeTtlSeconds].forEach((value, at) => numbers.setUint32(at * 4, value >>> 0));
  return Uint8Array.from([...nameBytes(identity.nameserver), ...nameBytes(identity.hostmaster), ...new Uint8Array(numbers.buffer)]);
}
