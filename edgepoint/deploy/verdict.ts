import { formatMs } from '../../kit/units.ts';
import type { ReleaseFacts } from '../model/app.ts';

/** Why a part of a preparation failed: the whole sentence, and its parts where it was a Failure. */
export interface PartFailure {
  readonly failure: string;
  readonly code?: string;
  readonly why?: string;
  readonly remedy?: string;
}

/** What the preparation measured. Times are from the order to the first answer. */
export interface Measured {
  readonly state: 'template' | 'keep';
  readonly coldBootMs: number;
  /** `frozenMs`: how long the program stood still meanwhile. */
  readonly snapshot: { readonly path: string; readonly bytes: number; readonly frozenMs?: number } | PartFailure;
  /** The fastest of the trials, the failure of the last, or null when there was nothing to try. */
  readonly trial: { readonly restoreMs: number; readonly trials?: number; readonly cloneMemoryBytes?: number | null } | PartFailure | null;
  readonly warmupsFailed?: number;
  /** It had empty volumes, not those that the app has. */
  readonly emptyVolumes?: boolean;
}

/**
 * How a release is woken from now on, and why. An app that keeps its state is woken from its snapshot even when a boot would be
 * faster, for the state is what it asks for; where it cannot be snapshotted it stays awake rather than lose it.
 */
export function judgePreparation(measured: Measured): ReleaseFacts {
  const { state, coldBootMs, snapshot, trial } = measured;
  const cold = (wakeReason: string, facts: Partial<ReleaseFacts> = {}): ReleaseFacts => ({
    wakeBy: 'cold',
    wakeReason,
    staysAwake: state === 'keep' ? `its state cannot be kept: ${wakeReason}` : '',
    snapshotPath: '',
    templateBytes: 0,
    coldBootMs,
    restoreMs: null,
    ...facts,
  });
  if ('failure' in snapshot) return cold(`it cannot be snapshotted: ${snapshot.failure}`);
  if (trial === null || 'failure' in trial) return cold(`its snapshot does not restore: ${trial === null ? 'it was not tried' : trial.failure}`);
  if (state === 'template' && trial.restoreMs >= coldBootMs) {
    const reason = `it boots faster (${formatMs(coldBootMs)}) than it restores (${formatMs(trial.restoreMs)})`;
    return cold(reason, { restoreMs: trial.restoreMs });
  }
  return {
    wakeBy: state === 'keep' ? 'keep' : 'template',
    wakeReason: '',
    staysAwake: '',
    snapshotPath: snapshot.path,
    templateBytes: snapshot.bytes,
    coldBootMs,
    restoreMs: trial.restoreMs,
  };
}

/** One slow restore may be chance (the first one reads the image from the disk); three are not. */
export const trialsMax = 3;

export function tryAgain(about: { state: 'template' | 'keep'; coldBootMs: number; restoreMs: number; trials: number }): boolean {
  return about.state === 'template' && about.restoreMs >= about.coldBootMs && about.trials < trialsMax;
}
