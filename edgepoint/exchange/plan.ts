import { formatBytes } from '../../kit/units.ts';

/** A template of this edgepoint that may lie in the object store too. */
export interface Storable {
  /** provider.scope.app */
  readonly app: string;
  readonly provider: string;
  readonly release: number;
  /** The sealed snapshot's digest. */
  readonly name: string;
  readonly bytes: number;
  /** It serves; otherwise a newer one does, and it is kept for a way back. */
  readonly serves: boolean;
  /** Edgepoints that host the release. */
  readonly sites: readonly string[];
  /** It is nowhere else any more: it must stay, and can be neither put nor offered anew before it has been fetched. */
  readonly offDisk: boolean;
}

/** What was begun to be put there, and no more than that: this edgepoint alone writes its store. */
export interface Stored {
  readonly app: string;
  readonly release: number;
  readonly name: string;
  readonly bytes: number;
  readonly sites: readonly string[];
  /** All of it is there, with its offer. */
  readonly whole: boolean;
}

export interface StoreLimits {
  readonly bytesMax: number;
  readonly providerBytesMax: number;
}

export type StoreStep =
  | { readonly kind: 'remove'; readonly stored: Stored; readonly reason: string }
  | { readonly kind: 'put'; readonly template: Storable; readonly reason: string }
  /** Others host it now: the offer is written anew. */
  | { readonly kind: 'offer'; readonly stored: Stored; readonly template: Storable; readonly reason: string };

export interface StorePlan {
  readonly steps: readonly StoreStep[];
  /** Why templates are not in the store; for many with one reason, one. */
  readonly notes: readonly string[];
}

/** Of offer and index, beside the template's own bytes. */
const fixedBytes = 8192;

/**
 * What this edgepoint keeps in the object store: what is nowhere else, then what serves before what is superseded, of these the newest release first, as long as
 * it fits into its provider's part and into the whole. What is removed is removed first, so that there is room.
 */
export function planStore(templates: readonly Storable[], stored: readonly Stored[], limits: StoreLimits): StorePlan {
  /** By the provider whose part is full, or '' where the whole is: the first that does not fit, and how many. */
  const left = new Map<string, { readonly first: Storable; count: number; readonly why: string }>();
  const byProvider = new Map<string, number>();
  const wanted = new Map<string, Storable>();
  let bytes = 0;
  for (const template of templates.toSorted(firstOf)) {
    const takes = template.bytes + fixedBytes;
    const ofProvider = byProvider.get(template.provider) ?? 0;
    const why = template.offDisk ? '' : ofProvider + takes > limits.providerBytesMax ? `its provider's part of ${formatBytes(limits.providerBytesMax)}` : bytes + takes > limits.bytesMax ? `the ${formatBytes(limits.bytesMax)} there are` : '';
    if (why !== '') {
      const where = ofProvider + takes > limits.providerBytesMax ? template.provider : '';
      const others = left.get(where);
      if (others === undefined) left.set(where, { first: template, count: 1, why });
      else others.count += 1;
      continue;
    }
    byProvider.set(template.provider, ofProvider + takes);
    bytes += takes;
    wanted.set(template.name, template);
  }
  const known = new Set(templates.map(({ name }) => name));
  const removes = stored.flatMap((one): StoreStep[] =>
    wanted.has(one.name) ? [] : [{ kind: 'remove', stored: one, reason: known.has(one.name) ? 'others need the room more' : 'nobody wants it any more' }],
  );
  const there = new Map(stored.map((one) => [one.name, one]));
  const puts = [...wanted.values()].flatMap((template): StoreStep[] => {
    const one = there.get(template.name);
    if (template.offDisk) return [];
    if (one === undefined || !one.whole) return [{ kind: 'put', template, reason: one === undefined ? 'it is not there' : 'it was cut off' }];
    return sameSites(one.sites, template.sites) ? [] : [{ kind: 'offer', stored: one, template, reason: 'other edgepoints host it than before' }];
  });
  return { steps: [...removes, ...puts], notes: [...left.values()].map(({ first, count, why }) => noteOf(first, count, why)) };
}

function noteOf({ app, release, bytes }: Storable, count: number, why: string): string {
  return `${app}: the template of release ${release} (${formatBytes(bytes)}) does not fit into ${why}${count > 1 ? `, nor do ${count - 1} more` : ''}`;
}

function firstOf(one: Storable, other: Storable): number {
  return Number(other.offDisk) - Number(one.offDisk) || Number(other.serves) - Number(one.serves) || other.release - one.release || (one.app < other.app ? -1 : Number(one.app > other.app));
}

function sameSites(one: readonly string[], other: readonly string[]): boolean {
  return one.toSorted().join() === other.toSorted().join();
}
