import { Resolver } from 'node:dns/promises';
import { codeOf } from '../../kit/errors.ts';
import { textName } from './judge.ts';
import type { FoundRecords } from './judge.ts';

/** CNAMEs followed, one after the other. */
const hopsMax = 8;
/** Of one answer: what is more is nobody's honest record. */
const valuesMax = 32;
const notThere = new Set(['ENOTFOUND', 'ENODATA']);

export type LookUp = (domain: string) => Promise<FoundRecords>;

/** Asks a resolver (ADDRESS or ADDRESS:PORT; empty: the machine's own) what a domain has; where names of the zone lead is known. Never rejects. */
export function openLookUp(server: string, zoneName: string): LookUp {
  return async (domain) => {
    const resolver = new Resolver({ timeout: 2_000, tries: 2 });
    try {
      if (server !== '') resolver.setServers([server]);
      const cnames = await follow(resolver, domain, zoneName);
      const ask = async <T>(question: Promise<T[]>): Promise<T[]> => (await question.catch(none<T>)).slice(0, valuesMax);
      const [ipv4, ipv6, texts] = cnames.length > 0 ? [[], [], []] : await Promise.all([ask(resolver.resolve4(domain)), ask(resolver.resolve6(domain)), ask(resolver.resolveTxt(textName(domain)))]);
      return { cnames, addresses: [...ipv4, ...ipv6.map(canonical)], texts: texts.map((parts) => parts.join('').trim().toLowerCase()), fault: '' };
    } catch (thrown) {
      return { cnames: [], addresses: [], texts: [], fault: codeOf(thrown) };
    }
  };
}

async function follow(resolver: Resolver, domain: string, zoneName: string): Promise<string[]> {
  const found: string[] = [];
  for (let name = domain; found.length < hopsMax; name = found.at(-1) ?? '') {
    const [next] = await resolver.resolveCname(name).catch(none<string>);
    const plain = next?.toLowerCase().replace(/\.$/, '');
    if (plain === undefined || plain === '' || found.includes(plain)) break;
    found.push(plain);
    if (plain.endsWith(`.${zoneName}`)) break;
  }
  return found;
}

/** That there is none is an answer. */
function none<T>(thrown: unknown): T[] {
  if (notThere.has(codeOf(thrown))) return [];
  throw thrown;
}

/** As edgepoints write theirs, so that two texts of one address are the same. */
export const canonical = (address: string): string => (address.includes(':') ? new URL(`http://[${address}]/`).hostname.slice(1, -1) : address);
