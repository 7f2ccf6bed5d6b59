import { join } from 'node:path';
import { boxPlaces } from '../edgepoint/box/folders.ts';
import { enterOwnNamespaces, openEngine } from './engine.ts';
import { type Contender, interleave } from './interleave.ts';
import { openPodmanPeer } from './podman.ts';
import type { Report } from './report.ts';
import { openRuncPeer, type RuncPeer } from './runc.ts';
import { appPort, type BenchApp, boxOrder, makeTemplate, placeArtefact, placeSmallApp, timed } from './small-app.ts';
import { median, medianRatio, percentile, rounded } from './statistics.ts';
import { compileTiny } from './tiny.ts';

/**
 * From asleep to the first byte: the small app (express on Node 20) restored by us, booted cold by us in the same isolation, and
 * restored by `runc restore` (as it comes, and with a CRIU configuration that spares it work); and a tiny C server restored by us.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  await enterOwnNamespaces();
  const engine = await openEngine();
  const peers: { close(): void }[] = [];
  try {
    const small = placeSmallApp(engine);
    const tiny = { artefactPath: placeArtefact(engine, 'tiny', compileTiny(engine)), command: ['/app/tiny-server'] };
    const smallTemplate = await makeTemplate(engine, 'small', small);
    const tinyTemplate = await makeTemplate(engine, 'tiny', tiny);
    const openRunc = (networkLock: 'default' | 'nftables' | 'skip', address: string): Promise<RuncPeer> =>
      openRuncPeer({
        artefact: small.artefactPath,
        dev: boxPlaces('/run/edgepoint-bench').dev,
        folder: join(engine.dataFolder, `runc-${networkLock}`),
        command: small.command,
        port: appPort,
        networkLock,
        address,
        prefixLength: 22,
      });
    const runc = await openRunc('default', '10.250.3.249');
    peers.push(runc);
    const runcNftables = await openRunc('nftables', '10.250.3.250');
    peers.push(runcNftables);
    const runcUnlocked = await openRunc('skip', '10.250.3.251');
    peers.push(runcUnlocked);
    const podman = await openPodmanPeer({ artefact: small.artefactPath, folder: join(engine.dataFolder, 'podman'), command: small.command, port: appPort, address: '10.250.3.252', prefixLength: 22 });
    if (typeof podman !== 'string') peers.push(podman);
    const wake = (name: string, app: BenchApp, snapshotPath: string): Contender => ({
      name,
      run: () => timed(engine, (instance) => engine.instances.restore({ ...boxOrder(instance, app.artefactPath), snapshotPath, continues: false })),
    });
    const samples = await interleave(
      [
        wake('restore', small, smallTemplate),
        { name: 'cold', run: () => timed(engine, (instance) => engine.instances.boot({ ...boxOrder(instance, small.artefactPath), command: small.command, env: { PORT: `${appPort}` } })) },
        { name: 'runc', run: () => runc.restore() },
        { name: 'runcNftables', run: () => runcNftables.restore() },
        { name: 'runcUnlocked', run: () => runcUnlocked.restore() },
        ...(typeof podman === 'string' ? [] : [{ name: 'podman', run: () => podman.restore() }]),
        wake('tiny', tiny, tinyTemplate),
      ],
      quick ? { rounds: 20, deadlineMs: 35_000 } : { rounds: 100, deadlineMs: 240_000 },
    );
    return summarize(samples, typeof podman === 'string' ? podman : '');
  } finally {
    for (const peer of peers) peer.close();
    await engine.close();
  }
}

function summarize(samples: ReadonlyMap<string, readonly number[]>, podmanFailure: string): Report {
  const of = (name: string): readonly number[] => samples.get(name) ?? [];
  const names: Readonly<Record<string, string>> = {
    restore: 'small app, our restore',
    cold: 'small app, our cold boot',
    runc: 'small app, runc restore',
    runcNftables: 'small app, runc restore, network lock by nftables',
    runcUnlocked: 'small app, runc restore, network lock skipped',
    podman: 'small app, podman container restore',
    tiny: 'tiny C server, our restore',
  };
  return {
    bench: 'wake',
    ratios: {
      coldOverRestore: rounded(medianRatio(of('cold'), of('restore'))),
      runcOverRestore: rounded(medianRatio(of('runc'), of('restore'))),
      runcNftablesOverRestore: rounded(medianRatio(of('runcNftables'), of('restore'))),
      runcUnlockedOverRestore: rounded(medianRatio(of('runcUnlocked'), of('restore'))),
      podmanOverRestore: podmanFailure === '' ? rounded(medianRatio(of('podman'), of('restore'))) : null,
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
      podmanMsP50: podmanFailure === '' ? rounded(median(of('podman'))) : null,
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
      ...(podmanFailure === '' ? [] : [`podman cannot restore here: ${podmanFailure}`]),
      'runc as it comes has CRIU lock the network at a checkpoint, so every restore unlocks it: by iptables as it comes, by nftables or not at all if a CRIU configuration says so.',
      'runc restores without a user namespace, private disk or seccomp of ours: less work than we do. Its root and network namespace are made beforehand.',
    ],
  };
}
