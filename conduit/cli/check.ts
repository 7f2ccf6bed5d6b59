import { Failure } from '../../kit/errors.ts';
import { buildLineSchema, checkLineSchema } from '../api/answers.ts';
import type { BuildLine, CheckLine } from '../api/answers.ts';
import { showBuildLine } from './build.ts';
import type { Client } from './client.ts';
import { eventText } from './deploy.ts';
import { reportLines } from './report.ts';
import { sendFolder } from './send-folder.ts';
import { harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

type End = Extract<CheckLine, { type: 'end' }>;

/**
 * Has an edgepoint prepare the app in a folder as a deploy would, and prints what it has shown. Resolves when it can be snapshotted and
 * restored; a Failure says why not, or why it would not serve at all.
 */
export async function checkFolder(folder: string, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  const end = await sendFolder(folder, client, terminal, async (conduit, app, upload, recognised) => {
    let building = recognised !== null;
    const lines: AsyncGenerator<CheckLine | BuildLine> =
      recognised === null ? conduit.lines(`/apps/${app}/checks`, checkLineSchema, upload) : conduit.lines(`/apps/${app}/builds?install=${recognised.install}&purpose=check`, buildLineSchema, upload);
    for await (const line of lines) {
      if (line.type === 'beat' || line.type === 'release') continue;
      terminal.tell(line);
      if (line.type === 'check') building = false;
      if (building || line.type === 'build' || line.type === 'output') showBuildLine(line, terminal);
      else if (line.type === 'check') terminal.say(`${line.check.site.zone}/${line.check.site.edgepoint} prepares it (${line.check.siteReason}); nothing of it stays`);
      else if (line.type === 'note') terminal.say(terminal.paint('yellow', harmless(line.text)));
      else if (line.type === 'event') terminal.say(eventText(line.event, line.event.zone.length + line.event.edgepoint.length + 1, terminal));
      else return line;
      terminal.progress('working …');
    }
    throw new Failure('progress-cut', 'the conduit ended the progress before the check was done', { remedy: 'Nothing of it stays; check again.' });
  });
  finish(end, terminal);
}

function finish(end: End, terminal: Terminal): void {
  const { report } = end;
  if (report === null) throw new Failure(end.outcome === 'timeout' ? 'check-timeout' : 'check-failed', harmless(end.text));
  terminal.say(`  ${end.site.zone}/${end.site.edgepoint}:`);
  for (const line of reportLines(report, terminal.paint)) terminal.say(line);
  if (report.canSnapshot.can) return terminal.say(`${terminal.paint('green', 'checked')}: \`conduit deploy\` makes a release of it`);
  throw new Failure('cannot-be-snapshotted', `it would serve, but it cannot be put to sleep and restored: ${harmless(report.canSnapshot.why)}`, { remedy: harmless(report.canSnapshot.remedy) });
}
