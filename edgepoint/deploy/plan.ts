import type { ReleaseFacts, ReleaseOrder } from '../model/app.ts';

/** What there is of a release on this edgepoint. */
export interface DeployFacts {
  /** The release that serves now, or null. */
  readonly servingRelease: number | null;
  /** What preparing this very release has shown before, perhaps before the head was restarted. */
  readonly known: ReleaseFacts | null;
  /** Why this very release was found unable to serve, or empty. */
  readonly rejected: string;
  /** The artefact lies unpacked. */
  readonly unpacked: boolean;
  /** It writes a volume that nobody else may write, and an older release serves. */
  readonly mustPause: boolean;
}

export type DeployStepKind = 'fetch-and-unpack' | 'pause' | 'prepare' | 'promote' | 'reject' | 'retire-others';

export interface DeployStep {
  readonly kind: DeployStepKind;
  readonly reason: string;
}

/** What is to be done so that the wanted release serves. Empty when it does. */
export function planDeploy(wanted: ReleaseOrder, facts: DeployFacts): readonly DeployStep[] {
  if (facts.rejected !== '') return [{ kind: 'reject', reason: facts.rejected }];
  const steps: DeployStep[] = [];
  if (!facts.unpacked) steps.push({ kind: 'fetch-and-unpack', reason: `artefact ${wanted.artefactDigest} is not here` });
  if (facts.known === null) {
    if (facts.mustPause) {
      steps.push({ kind: 'pause', reason: `release ${wanted.release} prepares on the same volume or state; requests are held meanwhile` });
    }
    steps.push({ kind: 'prepare', reason: `release ${wanted.release} has no template here that was tried` });
  }
  if (facts.known === null || facts.servingRelease !== wanted.release) {
    steps.push({ kind: 'promote', reason: `release ${wanted.release} is wanted and release ${facts.servingRelease ?? 'none'} serves` });
    steps.push({ kind: 'retire-others', reason: 'one other template is kept: of the release that served before' });
  }
  return steps;
}
