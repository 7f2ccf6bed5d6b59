import { readFileSync, writeFileSync, writeSync } from 'node:fs';
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { connectToPeer } from '../../host/calls.ts';
import { openLog } from '../../host/log.ts';
import { Failure, messageOf } from '../../kit/errors.ts';
import { formatMs, nsPerMs } from '../../kit/units.ts';
import { planEdgepoint } from '../resources/plan/plan.ts';
import type { Step } from '../resources/plan/view.ts';
import type { Dump, Status } from './answers.ts';
import { overviewText } from './overview-text.ts';
import type { FullStatus } from './operator-calls.ts';

const answerTimeoutMs = 5000;

const places: Readonly<Record<Status['apps'][number]['templateAt'], string>> = {
  '': '',
  disk: '  template on the disk',
  store: '  template in the object store',
  both: '  template on the disk and in the object store',
};

export function say(text: string): void {
  writeSync(1, `${text}\n`);
}

/** Asks the head of that run folder. */
export async function ask<T>(runFolder: string | undefined, method: string): Promise<T> {
  if (runFolder === undefined) throw new Failure('usage', 'name the edgepoint by --run-folder DIR', { remedy: 'It is `runFolder` in the config of its head.' });
  const link = connectToPeer(`${runFolder}/head.sock`, {}, { log: openLog('edgepoint') });
  try {
    return (await link.call(method, {}, { timeoutMs: answerTimeoutMs })) as T;
  } catch (failure) {
    throw new Failure('head-away', `the head of ${runFolder} does not answer: ${messageOf(failure)}`, { remedy: 'Is it running, and may you open its socket?' });
  } finally {
    link.stop();
  }
}

/** `edgepoint status`: what an operator looks at, then one line for each app. */
export async function runStatus(argv: readonly string[]): Promise<void> {
  const values = readOptions(argv, { 'run-folder': { type: 'string' }, json: { type: 'boolean' } });
  const status = await ask<FullStatus>(values['run-folder'], 'status');
  if (values.json === true) return say(JSON.stringify(status));
  say(overviewText(status.edgepoint));
  for (const app of status.apps) {
    const instances = Object.entries(app.instances).map(([mode, count]) => `${count} ${mode}`);
    const woken = app.wakeBy === 'cold' ? `cold${app.wakeReason === '' ? '' : ` (${app.wakeReason})`}` : `${app.wakeBy} in ${formatMs(app.restoreMs ?? 0)}`;
    const name = `${app.provider}.${app.scope}.${app.app}`;
    say(`${name}  release ${app.release}  ${app.status}${app.reason === '' ? '' : `: ${app.reason}`}  ${instances.join(', ') || 'asleep'}  woken by ${woken}${places[app.templateAt]}`);
  }
}

/** `edgepoint explain`: what was planned and why, of a running edgepoint or again from a dump. The same dump gives the same plan. */
export async function runExplain(argv: readonly string[]): Promise<void> {
  const values = readOptions(argv, {
    'run-folder': { type: 'string' },
    app: { type: 'string' },
    state: { type: 'string' },
    dump: { type: 'string' },
    json: { type: 'boolean' },
  });
  const dump = values.state === undefined ? await ask<Dump>(values['run-folder'], 'dump') : readDump(values.state);
  if (values.dump !== undefined) writeFileSync(values.dump, `${JSON.stringify(dump, null, 1)}\n`, { mode: 0o600 });
  const wanted = (key: string): boolean => values.app === undefined || key === values.app || key.split('.')[2] === values.app;
  const plan = planEdgepoint(dump.view);
  if (values.json === true) return say(JSON.stringify(plan));
  for (const view of dump.view.apps.filter((app) => wanted(app.app))) {
    say(`${view.app}: ${view.waiting} waiting, release ${view.serving?.release ?? 'none'}${places[dump.templates?.[view.app] ?? '']}`);
    for (const instance of view.instances) say(`  ${instance.id}  ${instance.mode}, ${instance.outstanding} under way, ${instance.tunnels} tunnels`);
    if (values.state === undefined) {
      for (const note of dump.plans[view.app] ?? []) {
        for (const step of note.steps) say(`  ${ago(dump.view.nowBootNs - note.bootNs)}: ${lineOf(step)}`);
        for (const line of note.notes) say(`  ${ago(dump.view.nowBootNs - note.bootNs)}: ${line}`);
      }
    }
  }
  const steps = plan.steps.filter((step) => wanted(step.app));
  say(steps.length === 0 ? 'now: nothing to do' : 'now:');
  for (const step of steps) say(`  ${lineOf(step)}`);
  for (const note of plan.notes) say(`  note: ${note}`);
  if (plan.lookAgainBootNs !== null) say(`looks again in ${formatMs(Math.max(0, (plan.lookAgainBootNs - dump.view.nowBootNs) / nsPerMs))}`);
}

/** The options, or a Failure that names the wrong one. */
export function readOptions<const Options extends NonNullable<ParseArgsConfig['options']>>(argv: readonly string[], options: Options) {
  try {
    return parseArgs({ args: [...argv], options }).values;
  } catch (thrown) {
    throw new Failure('command-line', messageOf(thrown), { remedy: '`edgepoint --help` lists the options.', cause: thrown });
  }
}

function readDump(path: string): Dump {
  let dump: Partial<Dump>;
  try {
    dump = JSON.parse(readFileSync(path, 'utf8')) as Partial<Dump>;
  } catch (failure) {
    throw new Failure('dump-unreadable', `${path} cannot be read as a dump: ${messageOf(failure)}`);
  }
  if (dump.form !== 'edgepoint-dump-1' || dump.view === undefined) throw new Failure('dump-unreadable', `${path} is not a dump of edgepoint explain`);
  return { form: dump.form, view: dump.view, plans: dump.plans ?? {}, templates: dump.templates ?? {} };
}

function lineOf(step: Step): string {
  if (step.kind === 'wake') return `wake ${step.app} (${step.by}) on ${step.module}: ${step.reason}`;
  if (step.kind === 'refuse') return `refuse ${step.app}: ${step.reason}`;
  return `${step.kind} ${step.instance} of ${step.app}: ${step.reason}`;
}

function ago(ns: number): string {
  return `${formatMs(Math.max(0, ns / nsPerMs))} ago`;
}
