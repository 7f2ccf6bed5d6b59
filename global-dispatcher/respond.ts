import type { NameEntry } from '../kit/wire/desired.ts';
import { formatAddress, parseAddress } from './address.ts';
import { challengeTtlSeconds, textData } from './challenges.ts';
import type { Challenges } from './challenges.ts';
import { chooseEdgepoints } from './choose.ts';
import type { Choice, Hosting } from './choose.ts';
import { locateUser } from './location.ts';
import type { Located, LocationSource, UserLocations } from './location.ts';
import { isMetaType, rcodes, types } from './wire/codes.ts';
import { nameBytes } from './wire/name.ts';
import { parseQuery } from './wire/query.ts';
import type { ClientSubnet, Question } from './wire/query.ts';
import { encodeResponse, tcpBytesMax, udpLimitBytes } from './wire/response.ts';
import type { ResourceRecord, Response } from './wire/response.ts';
import { soaData } from './zone.ts';
import type { NameTable, ZoneIdentity } from './zone.ts';

/** All that an answer depends on. */
export interface Knowledge {
  readonly identity: ZoneIdentity;
  readonly names: NameTable;
  readonly challenges: Pick<Challenges, 'lookUp'>;
  readonly serial: number;
  /** False until all was told once: till then what is not known may exist, and SERVFAIL sends the resolver elsewhere. */
  readonly complete: boolean;
  readonly hostingOf: (entry: NameEntry) => readonly Hosting[];
  readonly rows: UserLocations;
  readonly file: LocationSource;
  /** How many addresses one answer carries at most. */
  readonly answersMax: number;
}

export interface Asker {
  /** Of the resolver, or of the user itself. */
  readonly address: Uint8Array;
  readonly transport: 'udp' | 'tcp';
}

/** What to send (null: nothing) and what to count. */
export interface Reply {
  readonly bytes: Uint8Array | null;
  readonly type: number;
  readonly rcode: number;
  /** The edgepoint first in the answer, else empty. */
  readonly site: string;
}

/** One request in, one response out; pure, and total over all bytes. */
export function respond(message: Uint8Array, asker: Asker, knowledge: Knowledge): Reply {
  const parsed = parseQuery(message);
  if (parsed.kind === 'ignored') return { bytes: null, type: 0, rcode: 0, site: '' };
  const edns = parsed.edns;
  const limitBytes = asker.transport === 'tcp' ? tcpBytesMax : udpLimitBytes(edns);
  const base = { header: parsed.header, question: parsed.question, edns };
  if (parsed.kind === 'faulty') {
    return { bytes: encodeResponse({ ...base, ...bare(parsed.rcode) }, limitBytes), type: parsed.question?.type ?? 0, rcode: parsed.rcode, site: '' };
  }
  const answer = answerQuestion(parsed.question, asker.address, edns?.clientSubnet ?? null, knowledge);
  return { bytes: encodeResponse({ ...base, ...answer }, limitBytes), type: parsed.question.type, rcode: answer.rcode, site: answer.site };
}

type Answer = Omit<Response, 'header' | 'question' | 'edns'> & { readonly site: string };

const bare = (rcode: number): Answer => ({ rcode, authoritative: false, answers: [], authority: [], additional: [], scopePrefixBits: 0, site: '' });

function answerQuestion(question: Question, asker: Uint8Array, subnet: ClientSubnet | null, knowledge: Knowledge): Answer {
  const { identity, names } = knowledge;
  const found = names.lookUp(question.key);
  if (found.kind === 'outside' || (isMetaType(question.type) && question.type !== types.ANY)) return bare(rcodes.REFUSED);
  const positive = (answers: ResourceRecord[], additional: ResourceRecord[] = []): Answer => ({ ...bare(rcodes.NOERROR), authoritative: true, answers, additional });
  const negative = (rcode: number): Answer => ({ ...bare(rcode), authoritative: true, authority: [soaRecord(knowledge, identity.negativeTtlSeconds)] });
  if (found.kind === 'absent') {
    const values = knowledge.challenges.lookUp(question.key);
    if (values.length > 0) return question.type === types.TXT ? positive(values.map((value) => textRecord(question.key, value))) : negative(rcodes.NOERROR);
  }
  if (found.kind === 'absent') return knowledge.complete ? negative(rcodes.NXDOMAIN) : bare(rcodes.SERVFAIL);
  const owner = nameBytes(question.key);
  // RFC 8482 4.2: a synthesised HINFO keeps ANY from being of use to an amplifier.
  if (question.type === types.ANY && found.kind !== 'empty') return positive([{ owner, type: types.HINFO, ttlSeconds: 3600, data: hinfoData }]);
  if (found.kind === 'apex') {
    if (question.type === types.SOA) return positive([soaRecord(knowledge, identity.ttlSeconds)]);
    if (question.type === types.NS) return positive([nameserverRecord(identity)], glue(identity, names));
  }
  if (found.kind === 'nameserver' && (question.type === types.A || question.type === types.AAAA)) {
    const addresses = glue(identity, names).filter((record) => record.type === question.type);
    return addresses.length > 0 ? positive(addresses) : negative(rcodes.NOERROR);
  }
  if (found.kind === 'app' && (question.type === types.A || question.type === types.AAAA)) {
    const { choice, scopePrefixBits } = chooseFor(found.entry, question.type === types.A ? 4 : 6, asker, subnet, knowledge);
    const chosen = choice.ordered.slice(0, knowledge.answersMax);
    const records = chosen.flatMap(({ address }) => addressRecord(owner, parseAddress(address), question.type, identity.ttlSeconds));
    if (records.length === 0) return knowledge.complete ? negative(rcodes.NOERROR) : bare(rcodes.SERVFAIL);
    return { ...positive(records), scopePrefixBits, site: chosen[0]?.site ?? '' };
  }
  return negative(rcodes.NOERROR);
}

/** Where the user is held to be, from what, and so what is chosen; `explain` prints all of it. */
export interface ChosenFor {
  readonly choice: Choice;
  readonly scopePrefixBits: number;
  readonly located: Located;
  /** What the place was taken from: the user's own network, or the resolver's address. */
  readonly from: 'client-subnet' | 'resolver';
}

export function chooseFor(entry: NameEntry, family: 4 | 6, asker: Uint8Array, subnet: ClientSubnet | null, knowledge: Knowledge): ChosenFor {
  const ofResolver = (): Located => locateUser(asker, knowledge.rows, knowledge.file);
  // RFC 7871 7.1.2: a source prefix of 0 asks not to be tailored to the user; the resolver's own address is used instead.
  const user = subnet === null || subnet.sourcePrefixBits === 0 ? null : locateUser(paddedAddress(subnet), knowledge.rows, knowledge.file);
  const useUser = user !== null && user.location !== null;
  const located = useUser ? user : ofResolver();
  const choice = chooseEdgepoints({
    family,
    location: located.location,
    // The spread keeps to the resolver's address: an answer for an unknown network is good for all networks of that resolver.
    spreadKey: `${formatAddress(asker)} ${entry.provider}.${entry.scope}.${entry.app}`,
    hosting: knowledge.hostingOf(entry),
  });
  // An answer that is the same for everybody has scope 0; any other holds for the network that was looked up, known place or not.
  const scopePrefixBits = user !== null && choice.dependsOnLocation ? user.prefixBits : 0;
  return { choice, scopePrefixBits, located, from: useUser ? 'client-subnet' : 'resolver' };
}

function paddedAddress(subnet: ClientSubnet): Uint8Array {
  const whole = new Uint8Array(subnet.family === 1 ? 4 : 16);
  whole.set(subnet.address);
  return whole;
}

const hinfoData = Uint8Array.from([7, ...[...'RFC8482'].map((letter) => letter.charCodeAt(0)), 0]);

function soaRecord(knowledge: Knowledge, ttlSeconds: number): ResourceRecord {
  return { owner: nameBytes(knowledge.identity.apex), type: types.SOA, ttlSeconds, data: soaData(knowledge.identity, knowledge.serial) };
}

function textRecord(key: string, value: string): ResourceRecord {
  return { owner: nameBytes(key), type: types.TXT, ttlSeconds: challengeTtlSeconds, data: textData(value) };
}

function nameserverRecord(identity: ZoneIdentity): ResourceRecord {
  return { owner: nameBytes(identity.apex), type: types.NS, ttlSeconds: identity.ttlSeconds, data: nameBytes(identity.nameserver) };
}

/** The dispatcher's own addresses; none when its name lies in somebody else's zone. */
function glue(identity: ZoneIdentity, names: NameTable): ResourceRecord[] {
  if (names.lookUp(identity.nameserver).kind !== 'nameserver') return [];
  const owner = nameBytes(identity.nameserver);
  return identity.nameserverAddresses.flatMap((address) => addressRecord(owner, address, address.length === 4 ? types.A : types.AAAA, identity.ttlSeconds));
}

function addressRecord(owner: Uint8Array, address: Uint8Array | null, type: number, ttlSeconds: number): ResourceRecord[] {
  return address !== null && address.length === (type === types.A ? 4 : 16) ? [{ owner, type, ttlSeconds, data: address }] : [];
}
