import { Option } from 'commander';
import type { Command } from 'commander';
import { Failure } from '../../kit/errors.ts';
import { formatBytes } from '../../kit/units.ts';
import { snapshotsKeptMax, volumesLineSchema } from '../../kit/wire/volumes.ts';
import type { VolumeFacts } from '../../kit/wire/volumes.ts';
import { volumesAnswerSchema } from '../api/answers.ts';
import type { VolumesAnswer } from '../api/answers.ts';
import type { Client } from './client.ts';
import { columns, harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

/** What the command line is made of (main.ts). */
export interface VolumeCommands {
  command(program: Command, usage: string, about: string, examples: readonly string[], options?: { readonly isDefault?: boolean }): Command;
  connect(): Promise<Client>;
  terminalOf(self: Command): Terminal;
  forApp<T>(app: string, ask: (client: Client, path: string) => Promise<T>): Promise<T>;
}

interface WorkOptions {
  readonly at?: string;
  readonly from?: string;
  readonly keep?: number;
  readonly yes?: boolean;
}

/** `conduit volumes APP` and what there is to do about snapshots of one. */
export function describeVolumes(program: Command, { command, connect, terminalOf, forApp }: VolumeCommands): void {
  const volumes = program.command('volumes').description('Volumes of an app: how full they are, and their snapshots.').usage('<app> | <command>');
  const work = (usage: string, about: string, examples: readonly string[]): Command => command(volumes, usage, about, examples).option('--at <edgepoint>', 'at which edgepoint, where several have the app');
  const run = async (app: string, tail: string, { at, from, keep }: WorkOptions, self: Command): Promise<void> => {
    // Says what is wrong with the name or the token before anything begins.
    await forApp(app, (client, path) => client.get(`${path}/volumes`, volumesAnswerSchema));
    const asked = Object.entries({ at, from, keep }).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${encodeURIComponent(`${value}`)}`]));
    await follow(await connect(), `/apps/${encodeURIComponent(app)}/volumes/${tail}${asked.length === 0 ? '' : `?${asked.join('&')}`}`, terminalOf(self));
  };

  // What is no command is the name of an app.
  command(volumes, 'list <app>', 'Lists the volumes of an app and their snapshots (also: conduit volumes APP).', ['conduit volumes shop', 'conduit volumes list shop --json'], { isDefault: true }).action(async (app: string, _options: unknown, self: Command) => {
    const terminal = terminalOf(self);
    const answer = await forApp(app, (client, path) => client.get(`${path}/volumes`, volumesAnswerSchema));
    terminal.tell(answer);
    showVolumes(answer, terminal);
  });

  work('snapshot <app> <volume>', 'Takes a snapshot of a volume into the object store; only what is new since the last one is sent.', ['conduit volumes snapshot shop data', 'conduit volumes snapshot shop data --keep 7'])
    .addOption(new Option('--keep <count>', 'so many of the newest stay, and older ones are removed (default: all)').argParser(parseKeep))
    .action(async (app: string, volume: string, options: WorkOptions, self: Command) => run(app, `${encodeURIComponent(volume)}/snapshots`, options, self));

  work('restore <app> <volume> <snapshot>', 'Rolls a volume back to a snapshot; the app is stopped for a moment, and what was written since is lost.', ['conduit volumes restore shop data 3', 'conduit volumes restore shop data 3 --from eu/berlin'])
    .option('--from <edgepoint>', 'a snapshot that another edgepoint of its zone has made')
    .option('-y, --yes', 'do not ask')
    .action(async (app: string, volume: string, snapshot: string, options: WorkOptions, self: Command) => {
      if (options.yes !== true && process.stdin.isTTY !== true) throw new Failure('needs-yes', 'what was written since the snapshot will be lost, and there is no terminal to ask at', { remedy: `conduit volumes restore ${app} ${volume} ${snapshot} --yes` });
      if (options.yes !== true && !(await confirmed(`Roll ${volume} of ${app} back to snapshot ${snapshot}? What was written since is lost. Type its name: `, volume))) throw new Failure('not-confirmed', 'nothing was restored');
      await run(app, `${encodeURIComponent(volume)}/snapshots/${parseSnapshot(snapshot)}/restore`, options, self);
    });

  work('remove <app> <volume> <snapshot>', 'Removes a snapshot from the object store.', ['conduit volumes remove shop data 3']).action(async (app: string, volume: string, snapshot: string, options: WorkOptions, self: Command) =>
    run(app, `${encodeURIComponent(volume)}/snapshots/${parseSnapshot(snapshot)}/remove`, options, self),
  );
}

async function follow(client: Client, path: string, terminal: Terminal): Promise<void> {
  for await (const line of client.lines(path, volumesLineSchema, { stream: nothing(), headers: {} })) {
    if (line.type === 'beat') continue;
    terminal.tell(line);
    if (line.type === 'failed') throw new Failure(line.code, harmless(line.text), { remedy: harmless(line.remedy) });
    if (line.type === 'done') return terminal.say(terminal.paint('green', harmless(line.text)));
    if (line.type === 'progress') terminal.say(`  ${harmless(line.text)}`);
  }
  throw new Failure('progress-cut', 'the conduit ended before the edgepoint had done it; it goes on there', { remedy: '`conduit volumes APP` shows what has come of it.' });
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

export function showVolumes({ sites }: VolumesAnswer, terminal: Terminal): void {
  for (const { zone, edgepoint, volumes, reason } of sites) {
    terminal.say(`\n  ${terminal.paint('bold', `${zone}/${edgepoint}`)}  ${reason === '' ? (volumes.length === 0 ? 'no volume' : 'volumes') : `not told: ${harmless(reason)}`}`);
    for (const volume of volumes) {
      const line = `${harmless(volume.volume)}  ${harmless(volume.path)}  ${usedText(volume)}`;
      terminal.say(`    ${volume.full ? terminal.paint('red', `${line}  FULL: what is written more is refused (ENOSPC)`) : line}`);
      for (const row of snapshotRows(volume)) terminal.say(`      ${row}`);
    }
  }
}

/** What a file system needs for itself is neither used nor free. */
function usedText({ sizeBytes, usedBytes, freeBytes, storedBytes, snapshots }: VolumeFacts): string {
  const used = usedBytes === null ? `of ${formatBytes(sizeBytes)}, not written yet` : `${formatBytes(usedBytes)} of ${formatBytes(sizeBytes)} used, ${formatBytes(freeBytes ?? 0)} free`;
  const stored = storedBytes === null ? 'snapshots could not be asked for' : snapshots.length === 0 ? 'no snapshot' : `${snapshots.length} snapshots take ${formatBytes(storedBytes)} in the object store`;
  return `${used}, ${stored}`;
}

function snapshotRows({ snapshots }: VolumeFacts): string[] {
  if (snapshots.length === 0) return [];
  const rows = snapshots.map(({ snapshot, takenWallMs, release, dataBytes, newBytes }) => [`${snapshot}`, new Date(takenWallMs).toISOString(), `${release}`, formatBytes(dataBytes), formatBytes(newBytes)]);
  return columns([['SNAPSHOT', 'TAKEN', 'RELEASE', 'DATA', 'NEW'], ...rows]);
}

async function confirmed(question: string, word: string): Promise<boolean> {
  const { createInterface } = await import('node:readline/promises');
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await reader.question(question);
  reader.close();
  return answer.trim() === word;
}

function parseSnapshot(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new Failure('command-line', `${JSON.stringify(text)} is no number of a snapshot`, { remedy: '`conduit volumes APP` lists them.' });
}

function parseKeep(text: string): number {
  if (/^[1-9]\d?$/.test(text) && Number(text) <= snapshotsKeptMax) return Number(text);
  throw new Failure('command-line', `${JSON.stringify(text)} is no count of snapshots to keep`, { remedy: `Give a number from 1 to ${snapshotsKeptMax}.` });
}
