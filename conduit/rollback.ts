import { Failure } from '../kit/errors.ts';
import type { StoredRelease } from './store/apps.ts';

/** So many releases of an app can be gone back to: the newest ones, and the one that serves. Their artefacts are kept. */
export const keptReleases = 5;

export interface RollbackInput {
  readonly app: string;
  /** The release that serves. */
  readonly current: number;
  /** Those that have served, newest first. */
  readonly releases: readonly StoredRelease[];
  /** The release asked for; null: the one before the current one. */
  readonly to: number | null;
}

/** The release to go back (or forward again) to. Throws a Failure that says what can be gone back to. */
export function chooseRollback({ app, current, releases, to }: RollbackInput): StoredRelease {
  const kept = releases.filter((one, index) => index < keptReleases && one.release !== current);
  const names = kept.map((one) => one.release).join(', ');
  const remedy = kept.length === 0 ? 'Deploy once more first; there is only one release.' : `Releases that can be gone back to: ${names}. \`conduit releases ${app}\` lists them.`;
  if (to === current) throw new Failure('release-serves', `release ${current} of ${app} is the one that serves`, { remedy });
  const found = kept.find((one) => (to === null ? one.release < current : one.release === to));
  if (found !== undefined) return found;
  if (to === null) throw new Failure('release-unknown', `${app} has no release before ${current} that is kept`, { remedy });
  throw new Failure('release-unknown', `${app} has no release ${to} that is kept`, { remedy });
}
