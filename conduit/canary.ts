import { Failure } from '../kit/errors.ts';
import type { Manifest } from '../kit/wire/manifest.ts';
import type { StoredCanary } from './store/canaries.ts';

export const canaryAlone = (app: string): Failure =>
  new Failure('canary-alone', `${app} has no release yet, so there is nothing for a canary to stand beside`, { remedy: 'Deploy it once without --canary.' });

/**
 * Why a release cannot be a canary beside the one that serves; null when it can. Both would run at once: what only one instance may
 * have, or what each would have for itself alone, goes into no two releases.
 */
export function whyNoCanary(app: string, releases: readonly Pick<Manifest, 'state' | 'volume'>[]): Failure | null {
  for (const { state, volume } of releases) {
    const [first] = volume;
    const why = state === 'keep' ? 'its memory is kept (state = "keep"), so it has one instance' : first === undefined ? null : `two releases would not share its volume ${JSON.stringify(first.name)}`;
    if (why !== null) return new Failure('canary-not-possible', `${app} cannot have a canary: ${why}`, { remedy: 'Deploy it without --canary.' });
  }
  return null;
}

/** The app's canary, or the Failure that there is none. */
export function existingCanary(app: string, canary: StoredCanary | null): StoredCanary {
  if (canary !== null) return canary;
  throw new Failure('canary-unknown', `${app} has no canary`, { remedy: '`conduit deploy --canary PERCENT` makes one.' });
}
