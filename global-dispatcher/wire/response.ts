import { classIn, optionClientSubnet, types } from './codes.ts';
import type { Edns, Question, QueryHeader } from './query.ts';

/** Our own offer and the most we send over UDP, whatever the client asks: fits every path without fragments (DNS flag day 2020). */
export const udpBytesMax = 1232;
/** Without EDNS (RFC 1035 2.3.4), and the least an EDNS size may mean (RFC 6891 6.2.3). */
export const udpBytesWithoutEdns = 512;
export const tcpBytesMax = 65_535;

export interface ResourceRecord {
  /** Owner in wire form, uncompressed. */
  readonly owner: Uint8Array;
  readonly type: number;
  readonly ttlSeconds: number;
  readonly data: Uint8Array;
}

export interface Response {
  readonly header: QueryHeader;
  /** Extended; its upper bits travel in OPT and are lost when the query had none. */
  readonly rcode: number;
  readonly authoritative: boolean;
  /** Null when the query's could not be read. */
  readonly question: Question | null;
  readonly answers: readonly ResourceRecord[];
  readonly authority: readonly ResourceRecord[];
  readonly additional: readonly ResourceRecord[];
  /** The query's: a response has OPT exactly when the query had it (RFC 6891 6.1.1), and repeats its Client Subnet (RFC 7871 7.2.1). */
  readonly edns: Edns | null;
  readonly scopePrefixBits: number;
}

/** The most bytes a response to this query may have over UDP. */
export function udpLimitBytes(edns: Edns | null): number {
  return edns === null ? udpBytesWithoutEdns : Math.max(udpBytesWithoutEdns, Math.min(edns.udpBytesMax, udpBytesMax));
}

/**
 * The message in at most `limitBytes`. Additional records that do not fit are left out; when answers or authority do not fit,
 * all records are left out and TC is set, so that the client comes again over TCP. Header, question and OPT always fit in 512:
 * 12 + 259 + 11 + 4 + 20 bytes.
 */
export function encodeResponse(response: Response, limitBytes: number): Uint8Array {
  const opt = response.edns === null ? new Uint8Array(0) : encodeOpt(response.edns, response.rcode, response.scopePrefixBits);
  const question = response.question?.bytes ?? new Uint8Array(0);
  const records = (list: readonly ResourceRecord[]): Uint8Array[] => list.map((record) => encodeRecord(record, question));
  const needed = [...records(response.answers), ...records(response.authority)];
  const fixedBytes = 12 + question.length + opt.length;
  const truncated = fixedBytes + total(needed) > limitBytes;
  const extra = truncated ? [] : fitting(records(response.additional), limitBytes - fixedBytes - total(needed));
  const header = new Uint8Array(12);
  const flags =
    0x8000 | (response.header.opcode << 11) | (response.authoritative ? 0x0400 : 0) | (truncated ? 0x0200 : 0) |
    (response.header.recursionDesired ? 0x0100 : 0) | (response.rcode & 15);
  putUint16(header, 0, response.header.id);
  putUint16(header, 2, flags);
  putUint16(header, 4, question.length === 0 ? 0 : 1);
  putUint16(header, 6, truncated ? 0 : response.answers.length);
  putUint16(header, 8, truncated ? 0 : response.authority.length);
  putUint16(header, 10, extra.length + (opt.length === 0 ? 0 : 1));
  return concatenate([header, question, ...(truncated ? [] : needed), ...extra, opt]);
}

function fitting(records: readonly Uint8Array[], roomBytes: number): Uint8Array[] {
  const kept: Uint8Array[] = [];
  let left = roomBytes;
  for (const record of records) {
    if (record.length > left) break;
    kept.push(record);
    left -= record.length;
  }
  return kept;
}

function encodeRecord(record: ResourceRecord, question: Uint8Array): Uint8Array {
  const owner = compressOwner(record.owner, question);
  const fixed = new Uint8Array(10);
  putUint16(fixed, 0, record.type);
  putUint16(fixed, 2, classIn);
  putUint16(fixed, 4, record.ttlSeconds >>> 16);
  putUint16(fixed, 6, record.ttlSeconds & 0xffff);
  putUint16(fixed, 8, record.data.length);
  return concatenate([owner, fixed, record.data]);
}

/** A pointer into the question when the owner is the name asked for or one of its parents; all that our answers need. */
function compressOwner(owner: Uint8Array, question: Uint8Array): Uint8Array {
  const start = question.length - 4 - owner.length;
  if (owner.length <= 2 || start < 0) return owner;
  let at = 0;
  while (at < start) at += 1 + (question[at] ?? 0);
  if (at !== start || !owner.every((byte, index) => byte === lower(question[start + index] ?? 0))) return owner;
  return Uint8Array.of(0xc0 | ((12 + start) >> 8), (12 + start) & 0xff);
}

const lower = (byte: number): number => (byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte);

function encodeOpt(edns: Edns, rcode: number, scopePrefixBits: number): Uint8Array {
  const subnet = edns.clientSubnet;
  const optionBytes = subnet === null ? 0 : 8 + subnet.address.length;
  const opt = new Uint8Array(11 + optionBytes);
  putUint16(opt, 1, types.OPT);
  putUint16(opt, 3, udpBytesMax);
  opt[5] = rcode >> 4;
  // RFC 3225 section 3: DO is copied from the query.
  opt[7] = edns.dnssecOk ? 0x80 : 0;
  putUint16(opt, 9, optionBytes);
  if (subnet !== null) {
    putUint16(opt, 11, optionClientSubnet);
    putUint16(opt, 13, optionBytes - 4);
    putUint16(opt, 15, subnet.family);
    opt[17] = subnet.sourcePrefixBits;
    opt[18] = scopePrefixBits;
    opt.set(subnet.address, 19);
  }
  return opt;
}

export function putUint16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 0xff;
}

const total = (parts: readonly Uint8Array[]): number => parts.reduce((sum, part) => sum + part.length, 0);

export function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(total(parts));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
