import { domainPattern, isOfZone } from '../../kit/wire/certificates.ts';

/** What a resolver said of a domain. */
export interface FoundRecords {
  /** Where its CNAME leads, through further ones, the first first; ends at the first name in the zone. Empty when it has none. */
  readonly cnames: readonly string[];
  readonly addresses: readonly string[];
  /** TXT of `_edgepoint.DOMAIN`. */
  readonly texts: readonly string[];
  /** Why the resolver could not say; empty when it could. */
  readonly fault: string;
}

export interface DomainTarget {
  readonly domain: string;
  /** The app's own name in the zone. */
  readonly host: string;
  /** Of the edgepoints that host it. */
  readonly addresses: readonly string[];
}

/** A record that a domain's owner sets. */
export interface WantedRecord {
  readonly name: string;
  readonly type: 'CNAME' | 'A' | 'AAAA' | 'TXT';
  readonly value: string;
}

export const textName = (domain: string): string => `_edgepoint.${domain}`;

/**
 * The two ways to lead a domain to an app: a CNAME; or, where there can be none (at the apex of a zone, RFC 1034 section 3.6.2), the
 * addresses. Addresses do not tell for whose app, so a TXT record does.
 */
export function recordsFor({ domain, host, addresses }: DomainTarget): { readonly cname: readonly WantedRecord[]; readonly apex: readonly WantedRecord[] } {
  const byAddress = addresses.map((value): WantedRecord => ({ name: domain, type: value.includes(':') ? 'AAAA' : 'A', value }));
  return { cname: [{ name: domain, type: 'CNAME', value: host }], apex: [...byAddress, { name: textName(domain), type: 'TXT', value: host }] };
}

export type DomainCode = 'domain-record-missing' | 'domain-points-elsewhere' | 'domain-unproved' | 'domain-lookup-failed';

export type DomainVerdict = { readonly ok: true; readonly by: 'cname' | 'addresses' } | { readonly ok: false; readonly code: DomainCode; readonly text: string };

/** Whether what was found shows that the domain's owner wants it to lead to this app. */
export function judgeRecords({ domain, host, addresses }: DomainTarget, found: FoundRecords): DomainVerdict {
  const no = (code: DomainCode, text: string): DomainVerdict => ({ ok: false, code, text });
  if (found.fault !== '') return no('domain-lookup-failed', `the resolver cannot say what ${domain} has: ${found.fault}`);
  if (found.cnames.includes(host)) return { ok: true, by: 'cname' };
  const [cname] = found.cnames;
  if (cname !== undefined) return no('domain-points-elsewhere', `the CNAME of ${domain} leads to ${cname}, not to ${host}`);
  if (found.addresses.length === 0) return no('domain-record-missing', `${domain} has no record yet`);
  const others = found.addresses.filter((address) => !addresses.includes(address));
  if (others.length > 0) return no('domain-points-elsewhere', `${domain} has the address ${others[0] ?? ''}, which is none of the app's edgepoints`);
  if (found.texts.includes(host)) return { ok: true, by: 'addresses' };
  const [text] = found.texts;
  return no('domain-unproved', text === undefined ? `${domain} has the right address, but no TXT record at ${textName(domain)} says for which app` : `the TXT record at ${textName(domain)} names ${text}, not ${host}`);
}

/** '' or why a domain cannot be added to an app. */
export function whyNoDomain(domain: string, zoneName: string): string {
  if (!domainPattern.test(domain) || /^[0-9.]+$/.test(domain)) return 'it is no name in DNS: write it like shop.example.com, in lower case, without a closing dot';
  return isOfZone(domain, zoneName) ? `names in ${zoneName} are given with the apps: one has APP.${zoneName} by itself` : '';
}
