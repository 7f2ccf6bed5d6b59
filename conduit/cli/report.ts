import { formatBytes, formatMs } from '../../kit/units.ts';
import type { PreparationReport, ReportAnswer } from '../../kit/wire/report.ts';
import { harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

const notMeasured = '-';
const wakeWords = { template: 'restored from the template', keep: 'restored from its own last snapshot', cold: 'booted cold' } as const;

/** What preparing a release at an edgepoint has shown, one row a thing; the last lines of `deploy` and of `check`. */
export function reportLines(report: PreparationReport, paint: Terminal['paint']): string[] {
  const ms = (value: number | null): string => (value === null ? notMeasured : formatMs(value));
  const bytes = (value: number | null): string => (value === null ? notMeasured : formatBytes(value));
  const times = report.restoreMs !== null && report.restoreMs > 0 ? ` (${(report.coldBootMs / report.restoreMs).toFixed(1)} times as fast)` : '';
  const rows: readonly (readonly [string, string])[] = [
    ['can be snapshotted', answerText(report.canSnapshot, paint)],
    ['can be cloned', answerText(report.canClone, paint)],
    ['image', report.imageBytes === null ? notMeasured : `${bytes(report.imageBytes)}, taken in ${ms(report.frozenMs)} of standing still`],
    ['cold boot', ms(report.coldBootMs)],
    ['restore', `${ms(report.restoreMs)}${times}`],
    ['memory of a copy', bytes(report.cloneMemoryBytes)],
    ['it is woken', `${wakeWords[report.wakeBy]}: ${harmless(report.wakeReason)}`],
    ...report.warnings.map(({ text }) => ['warning', paint('yellow', harmless(text))] as const),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `    ${paint('dim', name.padEnd(width))}  ${text}`);
}

function answerText(answer: ReportAnswer, paint: Terminal['paint']): string {
  if (answer.can) return paint('green', 'yes');
  const remedy = answer.remedy === '' ? '' : `. ${harmless(answer.remedy)}`;
  return `${paint('red', 'no')}: ${harmless(answer.why)}${remedy}`;
}
