import { bitAt, bitsOf, familyOf, maskAddress } from './address.ts';
import type { Family, Prefix } from './address.ts';
import type { Location } from './choose.ts';

/** What a source of locations says of an address, and for how large a network around it it would have said the same. */
export interface Located {
  readonly location: Location | null;
  readonly prefixBits: number;
}
export type LocationSource = (address: Uint8Array) => Located;

/** Networks smaller than these are not told apart: answers are cached by resolvers for at least this much (RFC 7871 11.1 on privacy). */
export const scopeBitsMax: Readonly<Record<Family, number>> = { 4: 24, 6: 56 };

interface Node {
  zero: Node | null;
  one: Node | null;
  location: Location | null;
}
const newNode = (): Node => ({ zero: null, one: null, location: null });

/**
 * The operator's own places for networks, before any location file. The longest prefix wins; `prefixBits` is exact: within the
 * prefix it names no other row begins.
 */
export class UserLocations {
  readonly #roots: Record<Family, Node> = { 4: newNode(), 6: newNode() };

  constructor(rows: Iterable<readonly [Prefix, Location]>) {
    for (const [prefix, location] of rows) {
      let node = this.#roots[familyOf(prefix.address)];
      for (let at = 0; at < prefix.bits; at += 1) {
        const side = bitAt(prefix.address, at) === 1 ? 'one' : 'zero';
        node = node[side] ??= newNode();
      }
      node.location = location;
    }
  }

  locate(address: Uint8Array): Located {
    let node: Node = this.#roots[familyOf(address)];
    let location = node.location;
    let depth = 0;
    for (; depth < bitsOf(familyOf(address)) && (node.zero !== null || node.one !== null); depth += 1) {
      const next = bitAt(address, depth) === 1 ? node.one : node.zero;
      if (next === null) return { location, prefixBits: depth + 1 };
      node = next;
      location = node.location ?? location;
    }
    return { location, prefixBits: depth };
  }
}

/** The operator's rows first, then the file; both in networks no smaller than `scopeBitsMax`, so that the scope told is exact. */
export function locateUser(address: Uint8Array, rows: UserLocations, file: LocationSource): Located {
  const bitsMax = scopeBitsMax[familyOf(address)];
  const network = maskAddress(address, bitsMax);
  const own = rows.locate(network);
  if (own.location !== null) return { location: own.location, prefixBits: Math.min(own.prefixBits, bitsMax) };
  const filed = file(network);
  return { location: filed.location, prefixBits: Math.min(Math.max(own.prefixBits, filed.prefixBits), bitsMax) };
}

/** For a dispatcher without a location file: one network, of which nothing is known. */
export const nowhere: LocationSource = () => ({ location: null, prefixBits: 0 });
