import { Failure } from '../../kit/errors.ts';
import { ownerKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { OwnAddress } from '../model/calls.ts';
import { allocateOwn, ownPortsOf } from '../model/own-address.ts';
import type { OwnRanges } from '../model/own-address.ts';
import type { HeadRecords } from './records.ts';

/** Which app has which address of its own. */
export interface OwnAddresses {
  /** Failure `no-own-address` when it wants one and there is none. Durable when it returns. */
  give(order: ReleaseOrder): Promise<void>;
  take(owner: Owner): Promise<void>;
}

/** `known` is what the database remembered; `tell` is told of each address that an app has from now on, or (null) has no more. */
export function openOwnAddresses(about: {
  readonly ranges: OwnRanges;
  readonly known: ReadonlyMap<string, OwnAddress>;
  readonly records: Pick<HeadRecords, 'saveOwnAddress' | 'forgetOwnAddress'>;
  readonly tell: (owner: Owner, own: OwnAddress | null) => void;
}): OwnAddresses {
  const given = new Map(about.known);
  return {
    async give(order) {
      const ports = ownPortsOf(order.manifest);
      if (ports.length === 0) return;
      const app = ownerKey(order.owner);
      const before = given.get(app) ?? null;
      const own = allocateOwn(about.ranges, app, { before, taken: given.values(), ports });
      if (own.ipv4 === '' && own.ipv6 === '' && own.shared === undefined) {
        const none = about.ranges.ipv4 + about.ranges.ipv6 + about.ranges.ports === '';
        throw new Failure('no-own-address', none ? 'this edgepoint has no addresses to give to apps' : 'every address that this edgepoint can give to apps is taken', { remedy: 'leave out `ownPort`, or ask the operator for a range' });
      }
      given.set(app, own);
      if (JSON.stringify(own) !== JSON.stringify(before)) await about.records.saveOwnAddress(order.owner, own);
      about.tell(order.owner, own);
    },
    async take(owner) {
      if (!given.has(ownerKey(owner))) return;
      await about.records.forgetOwnAddress(owner);
      given.delete(ownerKey(owner));
      about.tell(owner, null);
    },
  };
}
