import { Failure } from '../../kit/errors.ts';
import { chooseAddress, type Subnet } from '../box/address.ts';

/** Which addresses instances have. */
export interface Addresses {
  /** The one that a sleeping instance wakes to, or (null) any free one. Failure `address-taken`, `no-address`. */
  take(wanted: string | null): string;
  give(address: string): void;
}

export function openAddresses(subnet: Subnet): Addresses {
  const taken = new Set<string>();
  let last: string | null = null;
  return {
    take(wanted) {
      if (wanted !== null && taken.has(wanted)) throw new Failure('address-taken', `the address ${wanted} of a sleeping instance is in use`);
      const address = wanted ?? chooseAddress(subnet, taken, last);
      if (address === null) throw new Failure('no-address', 'every address for instances is in use', { remedy: 'give the edgepoint a larger subnet' });
      if (wanted === null) last = address;
      taken.add(address);
      return address;
    },
    give: (address) => void taken.delete(address),
  };
}
