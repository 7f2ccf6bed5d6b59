import { chownSync, cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { exampleApp } from '../images/host/example-apps.ts';
import { boxPlaces } from '../edgepoint/box/folders.ts';
import { type Offering, findOffering } from '../edgepoint/model/offering.ts';
import type { BoxOrder } from '../edgepoint/model/calls.ts';
import { type Engine, enterOwnNamespaces, firstByte, openEngine } from './engine.ts';
import { type Contender, interleave } from './interleave.ts';
import type { Report } from './report.ts';
import { openRuncPeer, type RuncPeer } from './runc.ts';
import { median, medianRatio, percentile, rounded } from './statistics.ts';

export const port = 8080;
const settleMs = 300; // after each run, so that making the next slots is not counted to the next contender

/**
 * From asleep to the first byte: the small app (express on Node 20) restored by us, booted cold by us in the same isolation, and
 * restored by `runc restore` (as it comes, and with a CRIU configuration that spares it work); and a tiny C server restored by us.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  await enterOwnNamespaces();
  const engine = await openEngine();
  const peers: RuncPeer[] = [];
  try {
    const small = { artefactPath: placeArtefact(engine, 'small', exampleApp('hello')), command: ['node', 'server.js'] };
    const tiny = { artefactPath: placeArtefact(engine, 'tiny', compileTiny(engine)), command: ['/app/tiny-server'] };
    const smallTemplate = await makeTemplate(engine, 'small', small);
    const tinyTemplate = await makeTemplate(engine, 'tiny', tiny);
    const openRunc = (networkLock: 'default' | 'nftables' | 'skip', address: string): Promise<RuncPeer> =>
      openRuncPeer({
        artefact: small.artefactPath,
        dev: boxPlaces('/run/edgepoint-bench').dev,
        folder: join(engine.dataFolder, `runc-${networkLock}`),
        command: small.command,
        port,
        networkLock,
        address,
        prefixLength: 22,
        gateway: '10.250.0.1',
      });
    const runc = await openRunc('default', '10.250.3.249');
    peers.push(runc);
    const runcNftables = await openRunc('nftables', '10.250.3.250');
    peers.push(runcNftables);
    const runcUnlocked = await openRunc('skip', '10.250.3.251');
    peers.push(runcUnlocked);
    const wake = (name: string, app: typeof small, snapshotPath: string): Contender => ({
      name,
      run: () => timed(engine, (instance) => engine.instances.restore({ ...order(instance, app.artefactPath), snapshotPath, continues: false })),
    });
    const samples = await interleave(
      [
        wake('restore', small, smallTemplate),
        { name: 'cold', run: () => timed(engine, (instance) => engine.instances.boot({ ...order(instance, small.artefactPath), command: small.command, env: { PORT: `${port}` } })) },
        { name: 'runc', run: () => runc.restore() },
        { name: 'runcNftables', run: () => runcNftables.restore() },
        { name: 'runcUnlocked', run: () => runcUnlocked.restore() },
        wake('tiny', tiny, tinyTemplate),
      ],
      quick ? { rounds: 20, deadlineMs: 35_000 } : { rounds: 100, deadlineMs: 240_000 },
    );
    return summarize(samples);
  } finally {
    for (const peer of peers) peer.close();
    await engine.close();
  }
}

function summarize(samples: ReadonlyMap<string, readonly number[]>): Report {
  const of = (name: string): readonly number[] => samples.get(name) ?? [];
  const names: Readonly<Record<string, string>> = {
    restore: 'small app, our restore',
    cold: 'small app, our cold boot',
    runc: 'small app, runc restore',
    runcNftables: 'small app, runc restore, network lock by nftables',
    runcUnlocked: 'small app, runc restore, network lock skipped',
    tiny: 'tiny C server, our restore',
  };
  return {
    bench: 'wake',
    ratios: {
      coldOverRestore: rounded(medianRatio(of('cold'), of('restore'))),
      runcOverRestore: rounded(medianRatio(of('runc'), of('restore'))),
      runcNftablesOverRestore: rounded(medianRatio(of('runcNftables'), of('restore'))),
      runcUnlockedOverRestore: rounded(medianRatio(of('runcUnlocked'), of('restore'))),
      smallOverTiny: rounded(medianRatio(of('restore'), of('tiny'))),
    },
    figures: {
      n: of('restore').length,
      restoreMsP50: rounded(median(of('restore'))),
      restoreMsP99: rounded(percentile(of('restore'), 0.99)),
      coldMsP50: rounded(median(of('cold'))),
      runcMsP50: rounded(median(of('runc'))),
      runcNftablesMsP50: rounded(median(of('runcNftables'))),
      runcUnlockedMsP50: rounded(median(of('runcUnlocked'))),
      tinyMsP50: rounded(median(of('tiny'))),
    },
    rows: [...samples].map(([name, values]) => ({
      'asleep to first byte': names[name] ?? name,
      n: values.length,
      'p50 ms': rounded(median(values), 1),
      'p99 ms': rounded(percentile(values, 0.99), 1),
      'ours is faster by': rounded(medianRatio(values, of('restore'))),
    })),
    notes: [
      'runc as it comes has CRIU lock the network at a checkpoint, so every restore unlocks it: by iptables as it comes, by nftables or not at all if a CRIU configuration says so.',
      'runc restores without a user namespace, private disk or seccomp of ours: less work than we do. Its root and network namespace are made beforehand.',
    ],
  };
}

let count = 0;

/** Starts an instance, waits for its first byte, and takes it away again; milliseconds of the first two. */
export async function timed(engine: Engine, start: (instance: string) => Promise<{ address: string }>): Promise<number> {
  const instance = `bench-${(count += 1)}`;
  const begunMs = performance.now();
  const { address } = await start(instance);
  await firstByte(address, port);
  const tookMs = performance.now() - begunMs;
  await engine.instances.stop({ instance, graceMs: 0 });
  await Bun.sleep(settleMs);
  return tookMs;
}

export function order(instance: string, artefactPath: string): BoxOrder {
  const offering = findOffering('small') as Offering;
  const owner = { provider: 'bench', scope: 'main', app: 'bench' };
  return { instance, owner, release: 1, uidSlot: 9, offering, artefactPath, volumes: [], hostname: 'bench', ownNetwork: false, address: null };
}

/** `live`: as a deploy takes it, of an instance that runs on; it is sealed into fewer bytes than one that falls asleep. */
export async function makeTemplate(engine: Engine, name: string, app: { artefactPath: string; command: readonly string[] }, live = false): Promise<string> {
  const snapshotPath = join(engine.dataFolder, `${name}.template`);
  const instance = `template-${name}`;
  const { address } = await engine.instances.boot({ ...order(instance, app.artefactPath), command: app.command, env: { PORT: `${port}` } });
  for (let warm = 0; warm < 3; warm += 1) await firstByte(address, port);
  const taken = await engine.snapshots.snapshot({ instance, snapshotPath, keepRunning: live });
  if (live) await engine.instances.stop({ instance, graceMs: 0 });
  return taken.snapshotPath;
}

/** The app's folder as an artefact: `app` below a folder of an unprivileged owner. */
export function placeArtefact(engine: Engine, name: string, source: string): string {
  const folder = join(engine.dataFolder, name);
  mkdirSync(folder);
  cpSync(source, join(folder, 'app'), { recursive: true });
  chownSync(folder, 990, 990);
  if (Bun.spawnSync(['chown', '-R', '990:990', folder]).exitCode !== 0) throw new Error('chown');
  return folder;
}

function compileTiny(engine: Engine): string {
  const folder = join(engine.dataFolder, 'tiny-source');
  mkdirSync(folder);
  const done = Bun.spawnSync(['gcc', '-O2', '-static', '-o', join(folder, 'tiny-server'), join(import.meta.dir, 'tiny-server.c')]);
  if (done.exitCode !== 0) throw new Error(done.stderr.toString());
  return folder;
}
