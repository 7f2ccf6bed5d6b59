import { formatMs } from '../../kit/units.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import type { ReleaseFacts } from '../model/app.ts';
import { differsByInstance } from '../model/files.ts';

/** Why a part of a preparation failed: the whole sentence, and its parts where it was a Failure. */
export interface PartFailure {
  readonly failure: string;
  readonly code?: string;
  readonly why?: string;
  readonly remedy?: string;
}

/** Why no clone is made of a template: a stable code, the reason in words for the provider, and what to do. */
export interface Unsafe {
  readonly code: 'unguarded' | 'own-environment';
  readonly why: string;
  readonly remedy: string;
}

/** What the preparation measured. Times are from the order to the first answer. */
export interface Measured {
  readonly state: 'template' | 'keep';
  readonly coldBootMs: number;
  /** `frozenMs`: how long the program stood still meanwhile. */
  readonly snapshot: { readonly path: string; readonly bytes: number; readonly imageBytes?: number; readonly frozenMs?: number } | PartFailure;
  /** Why clones of it would be wrong, or null. */
  readonly unsafe: Unsafe | null;
  /** The fastest of the trials, the failure of the last, or null when there was nothing to try. */
  readonly trial: { readonly restoreMs: number; readonly trials?: number; readonly cloneMemoryBytes?: number | null } | PartFailure | null;
  readonly warmupsFailed?: number;
  /** It had empty volumes, not those that the app has. */
  readonly emptyVolumes?: boolean;
  /** The edgepoint that made the template and measured the cold boot; missing: this one. */
  readonly madeBy?: string;
}

/**
 * How a release is woken from now on, and why. An app that keeps its state is woken from its snapshot even when a boot would be
 * faster, for the state is what it asks for; where it cannot be snapshotted it stays awake rather than lose it.
 */
export function judgePreparation(measured: Measured): ReleaseFacts {
  const { state, coldBootMs, snapshot, unsafe, trial } = measured;
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
  if (state === 'template' && unsafe !== null) return cold(unsafe.why);
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
    imageBytes: snapshot.imageBytes ?? snapshot.bytes,
    coldBootMs,
    restoreMs: trial.restoreMs,
  };
}

/**
 * Why clones of a template would be wrong. They would have the environment of the instance that it was taken from, or repeat each other's
 * random numbers: unless every program of it can be renewed by the clone guard, or the manifest says that the program sees to it itself.
 */
export function whyUnsafe(unguarded: readonly string[], manifest: Pick<Manifest, 'env' | 'process' | 'snapshot'>): Unsafe | null {
  const environments = [manifest.env, ...(manifest.process ?? []).map(({ env }) => env)];
  const own = environments.flatMap((env) => Object.entries(env)).find(([, value]) => differsByInstance(value));
  if (own !== undefined) {
    const why = `its variable ${own[0]} differs from instance to instance, and a clone would have the value of the instance its template was taken from`;
    return { code: 'own-environment', why, remedy: 'Put what differs into a [[file]], which is written afresh in each clone, and have the program read it there.' };
  }
  const { snapshot } = manifest;
  if (unguarded.length === 0 || snapshot.randomness === 'own' || snapshot.after !== undefined) return null;
  const why =
    `${unguarded.join(', ')} may hold random generators whose state would be the same in every clone; ` +
    'if the program draws from the kernel alone, say `snapshot.randomness = "own"`, and if it can renew its generators, name the path that does so as `snapshot.after`';
  return { code: 'unguarded', why, remedy: 'Say in [snapshot] what is true of the program; see docs/guide/sleeping.md.' };
}

/** One slow restore may be chance (the first one reads the image from the disk); three are not. */
export const trialsMax = 3;

export function tryAgain(about: { state: 'template' | 'keep'; coldBootMs: number; restoreMs: number; trials: number }): boolean {
  return about.state === 'template' && about.restoreMs >= about.coldBootMs && about.trials < trialsMax;
}
