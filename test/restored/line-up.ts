import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { makeArtefact, probeProgram, server } from './app.ts';
import { type Engine, openEngine } from './engine.ts';

export interface Lineup {
  readonly engine: Engine;
  readonly neighbour: RunningInstance;
  readonly booted: RunningInstance;
  readonly others: readonly (readonly [string, RunningInstance])[];
}

/** A booted instance and what came of its snapshot: clones with either kind of network, and itself, woken. */
export async function lineUp(t: Parameters<typeof openEngine>[0], ownNetwork: boolean): Promise<Lineup> {
  const engine = await openEngine(t, { poolSize: 3 });
  const artefactPath = makeArtefact(engine.folder, 'probe', { 'server.js': server, probe: probeProgram(engine.folder) });
  const volumes = [{ name: 'store', imagePath: `${engine.folder}/data/store.ext4`, sizeBytes: 8 * 2 ** 20, mountPath: '/srv/store' }];
  const order = (name: string): ReturnType<typeof engine.order> => engine.order(name, { artefactPath, ownNetwork, volumes, env: { NAME: 'value' } });
  const neighbour = await engine.boot(order('neighbour'));
  const booted = await engine.boot(order('booted'));
  const slept = await engine.boot(order('slept'));
  for (const instance of [neighbour, booted, slept]) await engine.run(instance, 'return 1');
  await engine.snapshot('booted', engine.snapshotPath('shop'));
  await engine.snapshot('slept', engine.snapshotPath('slept'), false);
  const clone = await engine.restore({ ...order('clone'), snapshotPath: engine.snapshotPath('shop'), continues: false });
  const woken = await engine.restore({ ...order('slept'), address: slept.address, snapshotPath: engine.snapshotPath('slept'), continues: true });
  for (const instance of [clone, woken]) await engine.run(instance, 'return 1');
  return { engine, neighbour, booted, others: [['a clone', clone], ['one that slept', woken]] };
}
