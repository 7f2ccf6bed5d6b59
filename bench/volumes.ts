import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { openClock } from '../host/clock.ts';
import { bytesPerMebibyte } from '../kit/units.ts';
import { pieceBytesMax } from '../edgepoint/model/exchange.ts';
import { dataPaths } from '../edgepoint/model/paths.ts';
import type { CatalogueEntry, VolumeCopied, VolumeIndex } from '../edgepoint/model/volumes.ts';
import { openVolumeStore } from '../edgepoint/volume-store.ts';
import { type Engine, enterOwnNamespaces, firstByte, openEngine } from './engine.ts';
import type { Report } from './report.ts';
import { appPort, boxOrder, placeSmallApp } from './small-app.ts';
import { median, percentile, rounded } from './statistics.ts';

const noiseBytes = 128 * bytesPerMebibyte;
const volume = 'data';

/**
 * A snapshot of a volume that an instance has mounted, and in which 128 MiB that cannot be compressed lie: how long writers wait (the file system is
 * frozen while it is copied), how long sealing takes, how much of it is new when 1 MiB was changed; and how long verifying and laying it
 * down again takes, which a restore does while the app serves. The object store has no part in it.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  await enterOwnNamespaces();
  const engine = await openEngine({ poolSize: 1 });
  try {
    const rounds = quick ? 5 : 20;
    const { command, artefactPath } = placeSmallApp(engine);
    const { owner } = boxOrder('volume', artefactPath);
    const paths = dataPaths(engine.dataFolder);
    const instance = await engine.instances.boot({
      ...boxOrder('volume', artefactPath),
      volumes: [{ name: volume, imagePath: paths.volume(owner, volume), sizeBytes: 512 * bytesPerMebibyte, mountPath: '/data' }],
      command,
      env: { PORT: `${appPort}` },
    });
    await firstByte(instance.address, appPort);
    // The same file system once more, for what an instance sees belongs to ids that we are none of.
    const folder = join(engine.dataFolder, 'seen');
    mkdirSync(folder);
    const [device = ''] = said(['losetup', '-n', '-O', 'NAME', '-j', paths.volume(owner, volume)]).split('\n');
    said(['mount', '-t', 'ext4', device.trim(), folder]);
    const first: VolumeCopied[] = [];
    const second: VolumeCopied[] = [];
    const admits: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      // Not in one piece: it is what an app would write.
      for (let part = 0; part < noiseBytes / bytesPerMebibyte; part += 1) writeFileSync(join(folder, `noise-${part}`), randomBytes(bytesPerMebibyte));
      const one = await oneRound(engine, owner, () => writeFileSync(join(folder, 'noise-0'), randomBytes(bytesPerMebibyte)));
      first.push(one.first);
      second.push(one.second);
      admits.push(one.admitMs);
    }
    said(['umount', folder]);
    await engine.instances.stop({ instance: 'volume', graceMs: 0 });
    return summarize(first, second, admits);
  } finally {
    await engine.close();
  }
}

function said(argv: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(argv);
  if (exitCode !== 0) throw new Error(`${argv.join(' ')}: ${stderr.toString()}`);
  return stdout.toString();
}

/** Two snapshots in a catalogue of their own, and the first laid down again. */
async function oneRound(engine: Engine, owner: { provider: string; scope: string; app: string }, change: () => void): Promise<{ first: VolumeCopied; second: VolumeCopied; admitMs: number }> {
  const { dataFolder, runFolder } = engine;
  const calls = openVolumeStore({ ports: { ...engine.store.ports, trusted: () => [] }, dataFolder, runFolder, clock: openClock() });
  const about = { owner, volume };
  const aside = join(dataFolder, 'aside');
  mkdirSync(aside, { recursive: true });
  const read = async (part: 'chunks' | 'index'): Promise<Buffer> => {
    const pieces: Buffer[] = [];
    for (let from = 0; ; from += pieces.at(-1)?.length ?? 0) {
      const { base64 } = await calls.readVolumeCopy({ ...about, part, from, bytes: pieceBytesMax });
      if (base64 === '') return Buffer.concat(pieces);
      pieces.push(Buffer.from(base64, 'base64'));
    }
  };
  const take = async (catalogue: string, indexFile: string): Promise<{ copied: VolumeCopied; text: string }> => {
    const { text: begun } = await calls.changeCatalogue({ ...about, catalogue, change: { kind: 'begin' } });
    const copied = await calls.copyVolume({ ...about, catalogue: begun, indexFile });
    const index = await read('index');
    const { sequence } = JSON.parse(index.toString()) as VolumeIndex;
    writeFileSync(join(aside, `index-${sequence}`), index);
    if (indexFile === '') writeFileSync(join(aside, 'chunks'), await read('chunks'));
    const entry: CatalogueEntry = { sequence, takenWallMs: 1, release: 1, sizeBytes: copied.sizeBytes, dataBytes: copied.dataBytes, newBytes: copied.newBytes, index: copied.index };
    return { copied, text: (await calls.changeCatalogue({ ...about, catalogue: begun, change: { kind: 'finish', keep: null, entry } })).text };
  };
  const one = await take('', '');
  change();
  const two = await take(one.text, join(aside, 'index-1'));
  const order = { ...about, catalogue: one.text, from: engine.store.ports.site, sequence: 1, indexFile: join(aside, 'index-1'), chunksFile: join(aside, 'chunks'), sizeBytesMax: one.copied.sizeBytes };
  const { tookMs } = await calls.admitVolume(order);
  await calls.discardVolumeCopy(about);
  if (readFileSync(join(aside, 'chunks')).length < noiseBytes) throw new Error('what was measured is not what was written');
  rmSync(aside, { recursive: true, force: true });
  return { first: one.copied, second: two.copied, admitMs: tookMs };
}

function summarize(first: readonly VolumeCopied[], second: readonly VolumeCopied[], admits: readonly number[]): Report {
  const row = (what: string, values: readonly number[]): Record<string, string | number> => ({ what, n: values.length, 'p50 ms': rounded(median(values), 1), 'max ms': rounded(percentile(values, 1), 1) });
  const of = (snapshots: readonly VolumeCopied[], what: 'frozenMs' | 'sealMs'): number[] => snapshots.map((one) => one[what]);
  const newBytes = second.map((one) => one.newBytes);
  return {
    bench: 'volumes',
    ratios: {},
    figures: {
      n: first.length,
      frozenMsP50: rounded(median(of(first, 'frozenMs'))),
      frozenAgainMsP50: rounded(median(of(second, 'frozenMs'))),
      sealMsP50: rounded(median(of(first, 'sealMs'))),
      sealAgainMsP50: rounded(median(of(second, 'sealMs'))),
      newAgainBytesP50: median(newBytes),
      admitMsP50: rounded(median(admits)),
    },
    rows: [
      row('writers waited, first snapshot', of(first, 'frozenMs')),
      row('writers waited, second', of(second, 'frozenMs')),
      row('sealed, first', of(first, 'sealMs')),
      row('sealed, second', of(second, 'sealMs')),
      row('verified and laid down', admits),
    ],
    notes: [`Of ${noiseBytes} bytes, 1 MiB changed in between: ${median(newBytes)} bytes were new in the second.`],
  };
}
