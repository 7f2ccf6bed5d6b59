import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../../kit/errors.ts';
import { drainOf } from './overview.ts';
import type { Left, Overview } from './overview.ts';
import { ask, readOptions, say } from './questions.ts';

const lookMs = 250;
/** A head that is started again meanwhile is waited for. */
const awayMsMax = 30_000;
const timeoutSeconds = 600;

/**
 * `edgepoint drain`: orders it, tells how it goes, and ends when nothing runs any more (exit 0). Exit 1, with what is left, when the time is over
 * or only that is left which never sleeps; the edgepoint stays drained in either case, until `undrain`.
 */
export async function runDrain(argv: readonly string[]): Promise<void> {
  const values = readOptions(argv, { 'run-folder': { type: 'string' }, timeout: { type: 'string' }, json: { type: 'boolean' } });
  const seconds = values.timeout === undefined ? timeoutSeconds : Number(values.timeout);
  if (!Number.isFinite(seconds) || seconds < 0) throw new Failure('command-line', `--timeout takes seconds, and ${JSON.stringify(values.timeout)} is none`);
  const untilMs = performance.now() + seconds * 1000;
  let now = await ask<Overview>(values['run-folder'], 'drain');
  let told = '';
  for (;;) {
    const how = drainOf(now);
    const line = values.json === true ? JSON.stringify({ drain: how, left: now.left }) : progressText(now);
    if (line !== told) say((told = line));
    if (how === 'drained') return;
    if (how === 'not-drained') throw new Failure('undrained', 'somebody has taken the drain back meanwhile');
    const timeIsOver = performance.now() >= untilMs;
    if (how === 'stuck' || timeIsOver) throw notDrained(now, timeIsOver ? `not within ${seconds} s` : 'what is left never sleeps');
    await sleep(lookMs);
    now = await askPatiently(values['run-folder']);
  }
}

/** `edgepoint undrain`. */
export async function runUndrain(argv: readonly string[]): Promise<void> {
  const values = readOptions(argv, { 'run-folder': { type: 'string' }, json: { type: 'boolean' } });
  const now = await ask<Overview>(values['run-folder'], 'undrain');
  say(values.json === true ? JSON.stringify({ drain: drainOf(now), left: now.left }) : `${now.zone}.${now.edgepoint} takes end users again.`);
}

async function askPatiently(runFolder: string | undefined): Promise<Overview> {
  const untilMs = performance.now() + awayMsMax;
  for (;;) {
    try {
      return await ask<Overview>(runFolder, 'overview');
    } catch (failure) {
      if (performance.now() >= untilMs) throw failure;
      await sleep(lookMs);
    }
  }
}

function notDrained(now: Overview, why: string): Failure {
  const left = now.left.map((one) => `${leftText(one)}${one.stays === '' ? '' : ` (stays awake: ${one.stays})`}`);
  return new Failure('not-drained', `${now.zone}.${now.edgepoint} is not empty: ${why}. Left:\n  ${left.join('\n  ')}`, {
    remedy: 'It stays drained: nobody new is sent there. `edgepoint drain` again waits on; `edgepoint undrain` takes it back.',
  });
}

function leftText({ app, instances, underWay, waiting }: Left): string {
  const modes = Object.entries(instances).map(([mode, count]) => `${count} ${mode}`);
  return [`${app}: ${modes.join(', ') || 'none runs'}`, ...(underWay > 0 ? [`${underWay} under way`] : []), ...(waiting > 0 ? [`${waiting} waiting`] : [])].join(', ');
}

function progressText(now: Overview): string {
  const name = `${now.zone}.${now.edgepoint}`;
  if (now.left.length === 0) return `${name} is drained: nothing runs, ${now.asleep} apps sleep. A request that comes all the same wakes its app.`;
  return `${name} is being drained: ${now.left.map(leftText).join('; ')}`;
}
