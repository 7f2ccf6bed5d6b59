import { classIn, optionClientSubnet, rcodes, types } from './codes.ts';
import type { Rcode } from './codes.ts';
import { readName, skipName } from './name.ts';

/** EDNS Client Subnet as a query carries it (RFC 7871 section 6). */
export interface ClientSubnet {
  /** IANA address family: 1 IPv4, 2 IPv6, or 0 with a source prefix of 0. */
  readonly family: number;
  readonly sourcePrefixBits: number;
  /** Only the bytes that the prefix covers; the bits behind it are zero. */
  readonly address: Uint8Array;
}

export interface Edns {
  readonly version: number;
  readonly udpBytesMax: number;
  readonly dnssecOk: boolean;
  readonly clientSubnet: ClientSubnet | null;
}

export interface Question {
  readonly key: string;
  /** Name, type and class exactly as they came, so that the answer repeats the letters' case (draft-vixie-dnsext-dns0x20). */
  readonly bytes: Uint8Array;
  readonly type: number;
  readonly class: number;
}

export interface QueryHeader {
  readonly id: number;
  readonly opcode: number;
  readonly recursionDesired: boolean;
}

/**
 * `query`: well formed. `faulty`: to be answered with `rcode` and no data (question and edns as far as they could be read).
 * `ignored`: not to be answered at all, as answering an answer makes loops.
 */
export type ParsedQuery =
  | { readonly kind: 'query'; readonly header: QueryHeader; readonly question: Question; readonly edns: Edns | null }
  | { readonly kind: 'faulty'; readonly header: QueryHeader; readonly rcode: Rcode; readonly reason: string; readonly question: Question | null; readonly edns: Edns | null }
  | { readonly kind: 'ignored'; readonly reason: string };

const headerBytes = 12;
const uint16 = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);

/** Parses a request; reads at most once over its bytes and never throws. */
export function parseQuery(message: Uint8Array): ParsedQuery {
  if (message.length < headerBytes) return { kind: 'ignored', reason: 'shorter than a header' };
  const flags = uint16(message, 2);
  if ((flags & 0x8000) !== 0) return { kind: 'ignored', reason: 'a response' };
  const header = { id: uint16(message, 0), opcode: (flags >> 11) & 15, recursionDesired: (flags & 0x0100) !== 0 };
  const faulty = (rcode: Rcode, reason: string, question: Question | null = null, edns: Edns | null = null): ParsedQuery => ({ kind: 'faulty', header, rcode, reason, question, edns });
  if (header.opcode !== 0) return faulty(rcodes.NOTIMP, 'an opcode other than QUERY');
  // RFC 9619: a query has exactly one question.
  if (uint16(message, 4) !== 1) return faulty(rcodes.FORMERR, 'not exactly one question');
  const question = readQuestion(message);
  if (question === null) return faulty(rcodes.FORMERR, 'the question is cut or not a name');
  const rest = readEdns(message, headerBytes + question.bytes.length);
  if (typeof rest === 'string') return faulty(rcodes.FORMERR, rest, question);
  if (rest.edns !== null && rest.edns.version !== 0) return faulty(rcodes.BADVERS, 'an EDNS version other than 0', question, rest.edns);
  if (rest.fault !== '') return faulty(rcodes.FORMERR, rest.fault, question, rest.edns);
  if (question.class !== classIn) return faulty(rcodes.REFUSED, 'a class other than IN', question, rest.edns);
  return { kind: 'query', header, question, edns: rest.edns };
}

function readQuestion(message: Uint8Array): Question | null {
  const name = readName(message, headerBytes);
  if (name === null || name.next + 4 > message.length) return null;
  return { key: name.key, bytes: message.slice(headerBytes, name.next + 4), type: uint16(message, name.next), class: uint16(message, name.next + 2) };
}

/** Walks the records behind the question for the one OPT record; a string says what is malformed. */
function readEdns(message: Uint8Array, offset: number): { edns: Edns | null; fault: string } | string {
  const additionalAfter = uint16(message, 6) + uint16(message, 8);
  const records = additionalAfter + uint16(message, 10);
  let edns: Edns | null = null;
  let fault = '';
  let at = offset;
  // Each record takes 11 bytes or more, so the message's length bounds the walk, whatever the counts claim.
  for (let index = 0; index < records; index += 1) {
    const fixed = skipName(message, at);
    if (fixed === null || fixed + 10 > message.length) return 'a record is cut';
    const dataBytes = uint16(message, fixed + 8);
    const end = fixed + 10 + dataBytes;
    if (end > message.length) return 'a record is cut';
    if (uint16(message, fixed) === types.OPT) {
      if (edns !== null || message[at] !== 0 || index < additionalAfter) return 'OPT is repeated, named or misplaced';
      const options = readOptions(message.subarray(fixed + 10, end));
      if (typeof options === 'string') fault = options;
      edns = {
        version: message[fixed + 5] ?? 0,
        udpBytesMax: uint16(message, fixed + 2),
        dnssecOk: ((message[fixed + 6] ?? 0) & 0x80) !== 0,
        clientSubnet: typeof options === 'string' ? null : options.clientSubnet,
      };
    }
    at = end;
  }
  return at === message.length ? { edns, fault } : 'bytes behind the last record';
}

function readOptions(data: Uint8Array): { clientSubnet: ClientSubnet | null } | string {
  let clientSubnet: ClientSubnet | null = null;
  let at = 0;
  while (at < data.length) {
    if (at + 4 > data.length) return 'an EDNS option is cut';
    const end = at + 4 + uint16(data, at + 2);
    if (end > data.length) return 'an EDNS option is cut';
    if (uint16(data, at) === optionClientSubnet) {
      const subnet: ClientSubnet | null = clientSubnet === null ? readClientSubnet(data.slice(at + 4, end)) : null;
      if (subnet === null) return 'a malformed or repeated Client Subnet option';
      clientSubnet = subnet;
    }
    at = end;
  }
  return { clientSubnet };
}

/** RFC 7871 section 6: too few or too many bytes, bits behind the prefix, or a scope in a query are format errors. */
function readClientSubnet(data: Uint8Array): ClientSubnet | null {
  if (data.length < 4) return null;
  const family = uint16(data, 0);
  const sourcePrefixBits = data[2] ?? 0;
  const bitsMax = family === 1 ? 32 : family === 2 ? 128 : 0;
  const address = data.slice(4);
  if (family > 2 || data[3] !== 0 || sourcePrefixBits > bitsMax || address.length !== Math.ceil(sourcePrefixBits / 8)) return null;
  const spareBits = address.length * 8 - sourcePrefixBits;
  if (((address[address.length - 1] ?? 0) & ((1 << spareBits) - 1)) !== 0) return null;
  return { family, sourcePrefixBits, address };
}
