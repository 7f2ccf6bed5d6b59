import type { PreparationReport, ReportAnswer } from '../../kit/wire/report.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import { formatBytes, formatMs } from '../../kit/units.ts';
import type { ReleaseFacts } from '../model/app.ts';
import type { Offering } from '../model/offering.ts';
import type { Measured, PartFailure, Unsafe } from './verdict.ts';

const yes: ReportAnswer = { can: true, code: '', why: '', remedy: '' };

/** A copy of an app that uses more than this part of its offering's memory is near its limit. */
const memoryPart = 0.8;
/** Requests wait while an instance is frozen to be snapshotted; people notice from about here. */
const frozenMsMuch = 500;

/** What a preparation has shown, for the provider: the same for a deploy and for a check. */
export function reportPreparation(measured: Measured, facts: ReleaseFacts, manifest: Manifest, offering: Offering): PreparationReport {
  const { snapshot, trial } = measured;
  const taken = 'failure' in snapshot ? null : snapshot;
  const tried = trial === null || 'failure' in trial ? null : trial;
  const canSnapshot = judgeSnapshot(measured);
  const report = {
    canSnapshot,
    canClone: judgeClone(canSnapshot, measured.unsafe, manifest),
    wakeBy: facts.wakeBy,
    wakeReason: facts.wakeReason === '' ? wakeWords(facts) : facts.wakeReason,
    staysAwake: facts.staysAwake,
    imageBytes: taken?.imageBytes ?? taken?.bytes ?? null,
    frozenMs: taken?.frozenMs ?? null,
    coldBootMs: measured.coldBootMs,
    restoreMs: tried?.restoreMs ?? null,
    trials: tried?.trials ?? 0,
    cloneMemoryBytes: tried?.cloneMemoryBytes ?? null,
    madeBy: measured.madeBy ?? '',
  };
  return { ...report, warnings: warningsOf(report, measured, manifest, offering) };
}

function judgeSnapshot({ snapshot, trial }: Measured): ReportAnswer {
  if ('failure' in snapshot) return no(snapshot, 'cannot-snapshot');
  if (trial !== null && 'failure' in trial) {
    return { ...no(trial, 'cannot-restore'), why: `its snapshot does not restore: ${trial.why ?? trial.failure}` };
  }
  return yes;
}

const no = (part: PartFailure, code: string): ReportAnswer => ({ can: false, code: part.code ?? code, why: part.why ?? part.failure, remedy: part.remedy ?? '' });

/** The first reason that holds: what is told is what would have to change first. */
function judgeClone(canSnapshot: ReportAnswer, unsafe: Unsafe | null, manifest: Manifest): ReportAnswer {
  if (manifest.state === 'keep') {
    return { can: false, code: 'keeps-state', why: 'its memory is kept (state = "keep"), so there is one instance of it', remedy: 'Leave `state` out, and keep what must last in a volume.' };
  }
  const volume = manifest.volume.find((candidate) => !candidate.shareable);
  if (volume !== undefined) {
    return {
      can: false,
      code: 'one-writer',
      why: `its volume "${volume.name}" has one writer`,
      remedy: 'Say `shareable = true` under that [[volume]] when the program can share it with copies of itself.',
    };
  }
  if (unsafe !== null) return { can: false, ...unsafe };
  if (!canSnapshot.can) return { can: false, code: canSnapshot.code, why: 'it cannot be snapshotted, so every further instance is booted', remedy: canSnapshot.remedy };
  return yes;
}

function wakeWords({ wakeBy, coldBootMs, restoreMs }: ReleaseFacts): string {
  if (wakeBy === 'keep') return 'its state is kept, so it is woken from its own last snapshot';
  return `it restores faster (${formatMs(restoreMs ?? 0)}) than it boots (${formatMs(coldBootMs ?? 0)})`;
}

function warningsOf(report: Omit<PreparationReport, 'warnings'>, measured: Measured, manifest: Manifest, offering: Offering): PreparationReport['warnings'] {
  // A big one is restored lazily: after its first answer much of its image may not be in memory yet.
  const copyBytes = Math.max(report.cloneMemoryBytes ?? 0, report.imageBytes ?? 0);
  const rows: readonly (readonly [code: string, holds: boolean, text: string])[] = [
    [
      'warm-up-failed',
      (measured.warmupsFailed ?? 0) > 0,
      `${measured.warmupsFailed ?? 0} of ${manifest.warmup.length} warm-up requests had no answer below 500`,
    ],
    [
      'little-memory',
      copyBytes > offering.memoryBytes * memoryPart,
      `one copy holds ${formatBytes(copyBytes)} of the ${formatBytes(offering.memoryBytes)} of its offering; take a larger one`,
    ],
    [
      'long-freeze',
      (report.frozenMs ?? 0) > frozenMsMuch && manifest.state === 'keep',
      `requests that come while it falls asleep wait about ${formatMs(report.frozenMs ?? 0)}, for so long it is frozen`,
    ],
    ['never-sleeps', report.staysAwake !== '', `it is never put to sleep and costs what it uses all the time: ${report.staysAwake}`],
    ['empty-volumes', measured.emptyVolumes === true && manifest.volume.length > 0, 'it was checked with empty volumes: what it reads from full ones may make it larger and slower'],
  ];
  return rows.flatMap(([code, holds, text]) => (holds ? [{ code, text }] : []));
}

/** The report in one sentence, for events and logs. */
export function sentenceOfReport(report: PreparationReport): string {
  const snapshot = report.canSnapshot.can ? `can be snapshotted (${formatBytes(report.imageBytes ?? 0)})` : `cannot be snapshotted: ${report.canSnapshot.why}`;
  const clone = report.canClone.can ? 'can be cloned' : `cannot be cloned: ${report.canClone.why}`;
  const wake = report.wakeBy === 'cold' ? 'a cold boot' : 'a restore';
  const made = report.madeBy === '' ? '' : ` Its template was made by ${report.madeBy}.`;
  return `It ${snapshot}; it ${clone}; it is woken by ${wake}: ${report.wakeReason.replace(/\.$/, '')}.${made}`;
}
