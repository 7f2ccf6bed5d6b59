/** Numbers of the DNS protocol, as IANA lists them ("Domain Name System (DNS) Parameters"). */
export const types = { A: 1, NS: 2, CNAME: 5, SOA: 6, HINFO: 13, MX: 15, TXT: 16, AAAA: 28, SRV: 33, OPT: 41, DS: 43, DNSKEY: 48, SVCB: 64, HTTPS: 65, IXFR: 251, AXFR: 252, ANY: 255, CAA: 257 } as const;
export const classIn = 1;
/** Extended: those above 15 need an OPT record to carry their upper bits (RFC 6891 6.1.3). */
export const rcodes = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const;
export type Rcode = (typeof rcodes)[keyof typeof rcodes];
export const optionClientSubnet = 8;

const typeNames = new Map<number, string>(Object.entries(types).map(([name, number]) => [number, name]));
const rcodeNames = new Map<number, string>(Object.entries(rcodes).map(([name, number]) => [number, name]));

/** The name of a type we know, else `other`: a metric's label must not be the client's to choose. */
export const typeLabel = (type: number): string => typeNames.get(type) ?? 'other';
export const rcodeLabel = (rcode: number): string => rcodeNames.get(rcode) ?? 'other';

/** RFC 6895 3.1: types 128 to 255 are questions and meta-data, never data in a zone. */
export const isMetaType = (type: number): boolean => type === 0 || type === types.OPT || (type >= 128 && type <= 255);
