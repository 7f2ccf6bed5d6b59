import t from 'tap';
import { reportPreparation, sentenceOfReport } from '../../edgepoint/deploy/report.ts';
import { judgePreparation } from '../../edgepoint/deploy/verdict.ts';
import type { Measured } from '../../edgepoint/deploy/verdict.ts';
import { findOffering } from '../../edgepoint/model/offering.ts';
import type { Offering } from '../../edgepoint/model/offering.ts';
import { preparationReportSchema } from '../../kit/wire/report.ts';
import type { PreparationReport } from '../../kit/wire/report.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';

const small = findOffering('small') as Offering;
const mebibyte = 1024 * 1024;
const snapshot = { path: '/s', bytes: 16 * mebibyte, frozenMs: 40 };
const fast: Measured = { state: 'template', coldBootMs: 100, snapshot, unsafe: null, trial: { restoreMs: 20, trials: 1, cloneMemoryBytes: 30 * mebibyte }, warmupsFailed: 0 };
const refused = { failure: 'it holds an io_uring. Run it without.', code: 'uses-io-uring', why: 'it holds an io_uring', remedy: 'Run it without.' };
const alone = { name: 'data', path: '/data', sizeMegabytes: 8 };

function report(measured: Measured, manifest: Record<string, unknown> = {}): PreparationReport {
  const parsed = manifestSchema.parse({ app: 'shop', command: ['x'], port: 1, state: measured.state, ...manifest });
  return reportPreparation(measured, judgePreparation(measured), parsed, small);
}
const answer = ({ can, code }: { can: boolean; code: string }): string => (can ? 'yes' : `no, ${code}`);

/* What a provider reads: snapshot; clone; way; warnings. */
const rows: readonly [story: string, report: PreparationReport, snapshot: string, clone: string, way: string, warnings: string][] = [
  ['an ordinary app', report(fast), 'yes', 'yes', 'template', ''],
  ['it boots as fast', report({ ...fast, coldBootMs: 20 }), 'yes', 'yes', 'cold', ''],
  ['it cannot be snapshotted', report({ ...fast, snapshot: refused, trial: null }), 'no, uses-io-uring', 'no, uses-io-uring', 'cold', ''],
  ['its snapshot does not restore', report({ ...fast, trial: { failure: 'torn', code: 'cannot-restore', why: 'torn', remedy: '' } }), 'no, cannot-restore', 'no, cannot-restore', 'cold', ''],
  ['its clones would draw the same random numbers', report({ ...fast, unsafe: { code: 'unguarded', why: 'they would', remedy: '' }, trial: null }), 'yes', 'no, unguarded', 'cold', ''],
  ['it keeps its state', report({ ...fast, state: 'keep' }), 'yes', 'no, keeps-state', 'keep', ''],
  ['it keeps its state and cannot', report({ ...fast, state: 'keep', snapshot: refused, trial: null }), 'no, uses-io-uring', 'no, keeps-state', 'cold', 'never-sleeps'],
  ['it writes a volume alone', report(fast, { volume: [alone] }), 'yes', 'no, one-writer', 'template', ''],
  ['it shares its volume, which was empty', report({ ...fast, emptyVolumes: true }, { volume: [{ ...alone, shareable: true }] }), 'yes', 'yes', 'template', 'empty-volumes'],
  ['empty volumes of an app that has none', report({ ...fast, emptyVolumes: true }), 'yes', 'yes', 'template', ''],
  ['its warm-up fails', report({ ...fast, warmupsFailed: 1 }, { warmup: [{ path: '/' }, { path: '/x' }] }), 'yes', 'yes', 'template', 'warm-up-failed'],
  ['it nearly fills its offering', report({ ...fast, trial: { restoreMs: 20, trials: 1, cloneMemoryBytes: 450 * mebibyte } }), 'yes', 'yes', 'template', 'little-memory'],
  ['it nearly fills it, but is filled lazily', report({ ...fast, snapshot: { ...snapshot, imageBytes: 450 * mebibyte } }), 'yes', 'yes', 'template', 'little-memory'],
  ['it is frozen for long, but wakes elsewhere meanwhile', report({ ...fast, snapshot: { ...snapshot, frozenMs: 900 } }), 'yes', 'yes', 'template', ''],
  ['it is frozen for long at each sleep', report({ ...fast, state: 'keep', snapshot: { ...snapshot, frozenMs: 900 } }), 'yes', 'no, keeps-state', 'keep', 'long-freeze'],
];
for (const [story, told, canSnapshot, canClone, way, warnings] of rows) {
  t.test(story, async (t) => {
    t.equal(answer(told.canSnapshot), canSnapshot);
    t.equal(answer(told.canClone), canClone);
    t.equal(told.wakeBy, way);
    t.equal(told.warnings.map(({ code }) => code).join(), warnings);
    t.strictSame(preparationReportSchema.parse(told), told, 'it is what goes over the wire');
    t.not(told.wakeReason, '', 'the way has a reason');
    for (const part of [told.canSnapshot, told.canClone]) t.equal(part.why === '', part.can, 'a reason when it is no, and only then');
    t.notMatch(sentenceOfReport(told), /undefined|NaN|\.\./);
  });
}

t.test('what was measured is told, and what was not is null', async (t) => {
  t.match(report(fast), { imageBytes: 16 * mebibyte, frozenMs: 40, coldBootMs: 100, restoreMs: 20, trials: 1, cloneMemoryBytes: 30 * mebibyte });
  t.match(report({ ...fast, snapshot: refused, trial: null }), { imageBytes: null, frozenMs: null, coldBootMs: 100, restoreMs: null, trials: 0, cloneMemoryBytes: null });
  t.match(report({ ...fast, coldBootMs: 20 }), { imageBytes: 16 * mebibyte, restoreMs: 20 }, 'also when it is not used');
  t.match(report({ ...fast, snapshot: refused, trial: null }).canSnapshot, { why: 'it holds an io_uring', remedy: 'Run it without.' });
});
