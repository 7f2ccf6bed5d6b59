import { Failure } from '../../kit/errors.ts';
import { formatMs } from '../../kit/units.ts';
import type { PreparationReport } from '../../kit/wire/report.ts';
import { deployAnswerSchema, progressLineSchema } from '../api/answers.ts';
import type { DeployAnswer, ProgressLine } from '../api/answers.ts';
import { sendForBuild } from './build.ts';
import type { Client } from './client.ts';
import { reportLines } from './report.ts';
import { sendFolder } from './send-folder.ts';
import { harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

type End = Extract<ProgressLine, { type: 'end' }>;
type Event = Extract<ProgressLine, { type: 'event' }>['event'];

/** Packs, uploads and watches; resolves when every edgepoint is ready and throws a Failure when one is not. */
export async function deployFolder(folder: string, options: { watch: boolean; canary?: number; settle?: number }, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  const { answer, conduit } = await sendFolder(folder, client, terminal, async (conduit, app, upload, recognised) => ({
    conduit,
    answer: recognised !== null ? await sendForBuild(conduit, app, { upload, recognised, canary: options.canary }, terminal) : await conduit.send('POST', `/apps/${app}/releases${options.canary === undefined ? '' : `?canary=${options.canary}`}`, deployAnswerSchema, upload),
  }));
  await follow(answer, options, conduit, terminal);
}

/** Has an earlier release serve again, and watches as a deploy does. `to`: null for the one before. */
export async function rollBack(app: string, options: { to: number | null; watch: boolean }, conduit: Client, terminal: Terminal): Promise<void> {
  const which = options.to === null ? '' : `?release=${options.to}`;
  await follow(await conduit.send('POST', `/apps/${encodeURIComponent(app)}/rollback${which}`, deployAnswerSchema), options, conduit, terminal);
}

/** Another share for the canary, or (null) that it serves; watched as a deploy is. */
export async function moveCanary(app: string, options: { percent: number | null; watch: boolean }, conduit: Client, terminal: Terminal): Promise<void> {
  const way = options.percent === null ? 'promote' : `canary?percent=${options.percent}`;
  await follow(await conduit.send('POST', `/apps/${encodeURIComponent(app)}/${way}`, deployAnswerSchema), options, conduit, terminal);
}

/** `settle`: seconds for which it is watched, after all are ready, whether the release is taken back. */
export async function follow(answer: DeployAnswer, options: { watch: boolean; settle?: number }, conduit: Client, terminal: Terminal): Promise<void> {
  terminal.tell({ type: 'release', ...answer });
  const places = answer.sites.map(({ zone, edgepoint }) => `${zone}/${edgepoint}`).join(', ');
  const part = answer.canaryPercent === null ? '' : ` as a canary, with ${answer.canaryPercent} % of the requests`;
  terminal.say(`release ${answer.release} goes to ${places}${part} (${answer.placementReason})`);
  if (options.watch) await watchDeploy(answer, options.settle ?? 0, conduit, terminal);
  else terminal.say(`\`conduit status ${answer.app}\` tells how far it is.`);
}

async function watchDeploy(answer: DeployAnswer, settle: number, conduit: Client, terminal: Terminal): Promise<void> {
  const width = Math.max(...answer.sites.map(({ zone, edgepoint }) => zone.length + edgepoint.length + 1));
  const stages = new Map(answer.sites.map(({ zone, edgepoint }) => [`${zone}/${edgepoint}`, '']));
  const reports = new Map<string, PreparationReport>();
  let takenBack = false;
  for await (const line of conduit.lines(`/apps/${answer.app}/events?deploy=${answer.deployId}${settle === 0 ? '' : `&settle=${settle}`}`, progressLineSchema)) {
    if (line.type === 'beat') continue;
    terminal.tell(line);
    if (line.type === 'note') terminal.say(terminal.paint('yellow', harmless(line.text)));
    else if (line.type === 'event') terminal.say(eventText(line.event, width, terminal));
    else return finish(line, { reports, takenBack }, answer, terminal);
    if (line.type === 'event') takenBack ||= line.event.code === 'release-taken-back';
    if (line.type === 'event') stages.set(`${line.event.zone}/${line.event.edgepoint}`, line.event.stage);
    if (line.type === 'event' && line.event.report !== null) reports.set(`${line.event.zone}/${line.event.edgepoint}`, line.event.report);
    terminal.progress(workingText(stages) || (settle === 0 ? '' : `ready; watching for ${settle} s how it answers …`));
  }
  throw new Failure('progress-cut', 'the conduit ended the progress before the deploy was done', { remedy: `The release is stored; \`conduit status ${answer.app}\` tells how far it is.` });
}

/** `working: north/one (after boot), south/two`; empty when all have ended. */
function workingText(stages: ReadonlyMap<string, string>): string {
  const working = [...stages].flatMap(([place, stage]) => (stage === 'ready' || stage === 'failed' ? [] : [stage === '' ? place : `${place} (after ${harmless(stage)})`]));
  return working.length === 0 ? '' : `working: ${working.join(', ')} …`;
}

/** One line of progress; `width` is the width of the place's column. */
export function eventText(event: Event, width: number, terminal: Terminal): string {
  const place = `${event.zone}/${event.edgepoint}`.padEnd(width);
  const took = event.tookMs === null ? '' : formatMs(event.tookMs);
  const colour = event.stage === 'ready' ? 'green' : event.stage === 'failed' ? 'red' : 'blue';
  return `  ${terminal.paint('dim', place)}  ${terminal.paint(colour, event.stage.padEnd(8))}  ${took.padStart(8)}  ${harmless(event.text)}`;
}

function finish(end: End, { reports, takenBack }: { reports: ReadonlyMap<string, PreparationReport>; takenBack: boolean }, answer: DeployAnswer, terminal: Terminal): void {
  terminal.progress('');
  for (const site of end.sites) {
    const report = reports.get(`${site.zone}/${site.edgepoint}`);
    if (report !== undefined) {
      terminal.say(`  ${site.zone}/${site.edgepoint}:`);
      for (const line of reportLines(report, terminal.paint)) terminal.say(line);
      continue;
    }
    if (site.outcome !== 'ready' || site.coldBootMs === null || site.restoreMs === null) continue;
    const times = site.restoreMs > 0 ? `, ${(site.coldBootMs / site.restoreMs).toFixed(1)} times as fast` : '';
    terminal.say(`  ${site.zone}/${site.edgepoint}: cold boot ${formatMs(site.coldBootMs)}, restore ${formatMs(site.restoreMs)}${times}`);
  }
  if (end.outcome === 'ready') {
    terminal.say(`${terminal.paint('green', 'ready')}: ${terminal.paint('bold', answer.url)}`);
    return;
  }
  throw new Failure(takenBack ? 'deploy-taken-back' : `deploy-${end.outcome}`, `the deploy of ${answer.app} is not done: ${harmless(end.text)}`, {
    remedy: end.outcome === 'superseded' ? '' : `\`conduit status ${answer.app}\` and \`conduit logs ${answer.app}\` tell more.`,
  });
}
