import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure, codeOf } from '../../kit/errors.ts';
import { formatBytes, formatMs } from '../../kit/units.ts';
import { deployAnswerSchema, loginAnswerSchema, progressLineSchema } from '../api/answers.ts';
import type { DeployAnswer, ProgressLine } from '../api/answers.ts';
import { manifestFailure, manifestFile, readManifest } from '../manifest/read.ts';
import type { Client } from './client.ts';
import { packFolder } from './pack.ts';
import type { PackedFolder } from './pack.ts';
import { harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

type End = Extract<ProgressLine, { type: 'end' }>;
type Event = Extract<ProgressLine, { type: 'event' }>['event'];

/** Packs, uploads and watches; resolves when every edgepoint is ready and throws a Failure when one is not. */
export async function deployFolder(folder: string, options: { watch: boolean }, client: () => Promise<Client>, terminal: Terminal): Promise<void> {
  const app = await checkManifest(folder);
  const conduit = await client();
  // Asked first, so that a wrong token or a folder too big is known before anything is sent.
  const { uploadBytesMax } = await conduit.send('POST', '/login', loginAnswerSchema);
  const packed = await packFolder(folder, (files, bytes) => terminal.progress(`packing: ${files} files, ${formatBytes(bytes)}`));
  let answer: DeployAnswer;
  try {
    terminal.say(`${terminal.paint('bold', app)}: ${packed.files} files, ${formatBytes(packed.unpackedBytes)}, packed ${formatBytes(packed.bytes)}`);
    if (packed.bytes > uploadBytesMax) {
      throw new Failure('upload-too-big', `packed, the folder has ${formatBytes(packed.bytes)}; this conduit takes ${formatBytes(uploadBytesMax)}`, {
        remedy: 'Name what the app does not need in .edgepointignore; put data into a volume.',
      });
    }
    answer = await conduit.send('POST', `/apps/${app}/releases`, deployAnswerSchema, {
      stream: countedFile(packed, terminal),
      headers: { 'content-type': 'application/gzip', 'x-artefact-digest': packed.digest },
    });
  } finally {
    terminal.progress('');
    await packed.dispose();
  }
  terminal.tell({ type: 'release', ...answer });
  const places = answer.sites.map(({ zone, edgepoint }) => `${zone}/${edgepoint}`).join(', ');
  terminal.say(`release ${answer.release} goes to ${places} (${answer.placementReason})`);
  if (options.watch) await watchDeploy(answer, conduit, terminal);
  else terminal.say(`\`conduit status ${app}\` tells how far it is.`);
}

async function checkManifest(folder: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(join(folder, manifestFile), 'utf8');
  } catch (thrown) {
    if (!['ENOENT', 'ENOTDIR'].includes(codeOf(thrown))) throw thrown;
    throw new Failure('manifest-missing', `there is no ${manifestFile} in ${folder}`, { remedy: '`conduit init` writes one.', cause: thrown });
  }
  const read = readManifest(text);
  if (!read.ok) throw manifestFailure(read.problems);
  return read.manifest.app;
}

async function* countedFile(packed: PackedFolder, terminal: Terminal): AsyncGenerator<Uint8Array> {
  let sent = 0;
  for await (const chunk of createReadStream(packed.path, { highWaterMark: 256 * 1024 })) {
    yield chunk as Uint8Array;
    sent += (chunk as Uint8Array).length;
    terminal.progress(`uploading: ${formatBytes(sent)} of ${formatBytes(packed.bytes)} (${Math.floor((sent / packed.bytes) * 100)} %)`);
  }
}

async function watchDeploy(answer: DeployAnswer, conduit: Client, terminal: Terminal): Promise<void> {
  const width = Math.max(...answer.sites.map(({ zone, edgepoint }) => zone.length + edgepoint.length + 1));
  const stages = new Map(answer.sites.map(({ zone, edgepoint }) => [`${zone}/${edgepoint}`, '']));
  for await (const line of conduit.lines(`/apps/${answer.app}/events?deploy=${answer.deployId}`, progressLineSchema)) {
    if (line.type === 'beat') continue;
    terminal.tell(line);
    if (line.type === 'note') terminal.say(terminal.paint('yellow', harmless(line.text)));
    else if (line.type === 'event') terminal.say(eventText(line.event, width, terminal));
    else return finish(line, answer, terminal);
    if (line.type === 'event') stages.set(`${line.event.zone}/${line.event.edgepoint}`, line.event.stage);
    terminal.progress(workingText(stages));
  }
  throw new Failure('progress-cut', 'the conduit ended the progress before the deploy was done', { remedy: `The release is stored; \`conduit status ${answer.app}\` tells how far it is.` });
}

/** `working: north/one (after boot), south/two`; empty when all have ended. */
function workingText(stages: ReadonlyMap<string, string>): string {
  const working = [...stages].flatMap(([place, stage]) => (stage === 'ready' || stage === 'failed' ? [] : [stage === '' ? place : `${place} (after ${harmless(stage)})`]));
  return working.length === 0 ? '' : `working: ${working.join(', ')} …`;
}

function eventText(event: Event, width: number, terminal: Terminal): string {
  const place = `${event.zone}/${event.edgepoint}`.padEnd(width);
  const took = event.tookMs === null ? '' : formatMs(event.tookMs);
  const colour = event.stage === 'ready' ? 'green' : event.stage === 'failed' ? 'red' : 'blue';
  return `  ${terminal.paint('dim', place)}  ${terminal.paint(colour, event.stage.padEnd(8))}  ${took.padStart(8)}  ${harmless(event.text)}`;
}

function finish(end: End, answer: DeployAnswer, terminal: Terminal): void {
  terminal.progress('');
  for (const site of end.sites) {
    if (site.outcome !== 'ready' || site.coldBootMs === null || site.restoreMs === null) continue;
    const times = site.restoreMs > 0 ? `, ${(site.coldBootMs / site.restoreMs).toFixed(1)} times as fast` : '';
    terminal.say(`  ${site.zone}/${site.edgepoint}: cold boot ${formatMs(site.coldBootMs)}, restore ${formatMs(site.restoreMs)}${times}`);
  }
  if (end.outcome === 'ready') {
    terminal.say(`${terminal.paint('green', 'ready')}: ${terminal.paint('bold', answer.url)}`);
    return;
  }
  throw new Failure(`deploy-${end.outcome}`, `the deploy of ${answer.app} is not done: ${harmless(end.text)}`, {
    remedy: end.outcome === 'superseded' ? '' : `\`conduit status ${answer.app}\` and \`conduit logs ${answer.app}\` tell more.`,
  });
}
