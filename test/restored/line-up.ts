import { existsSync, readFileSync, statSync } from 'node:fs';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { makeArtefact, probeProgram, server } from './app.ts';
import { type Engine, openEngine, until } from './engine.ts';

export interface Lineup {
  readonly engine: Engine;
  readonly neighbour: RunningInstance;
  readonly booted: RunningInstance;
  readonly others: readonly (readonly [string, RunningInstance])[];
}

/** A booted instance and what came of its snapshot: clones, one of them restored lazily, and itself, woken, eagerly and lazily. */
export async function lineUp(t: Parameters<typeof openEngine>[0], ownNetwork: boolean): Promise<Lineup> {
  const engine = await openEngine(t, { poolSize: 3 });
  const artefactPath = makeArtefact(engine.folder, 'probe', { 'server.js': server, probe: probeProgram(engine.folder) });
  const volumes = [{ name: 'store', imagePath: `${engine.folder}/data/store.ext4`, sizeBytes: 8 * 2 ** 20, mountPath: '/srv/store' }];
  const order = (name: string): ReturnType<typeof engine.order> => engine.order(name, { artefactPath, ownNetwork, volumes, env: { NAME: 'value' } });
  const neighbour = await engine.boot(order('neighbour'));
  const booted = await engine.boot(order('booted'));
  const slept = await engine.boot(order('slept'));
  const lazily = await engine.boot(order('lazily'));
  for (const instance of [neighbour, booted, slept, lazily]) await engine.run(instance, 'return 1');
  await engine.snapshot('booted', engine.snapshotPath('shop'));
  await engine.snapshot('slept', engine.snapshotPath('slept'), false);
  const clone = await engine.restore({ ...order('clone'), snapshotPath: engine.snapshotPath('shop'), continues: false });
  const woken = await engine.restore({ ...order('slept'), address: slept.address, snapshotPath: engine.snapshotPath('slept'), continues: true });
  engine.configure('restored', { lazyFromBytes: 0 });
  await engine.killDaemon('restored');
  await engine.startDaemon('restored');
  const lazyClone = await engine.restore({ ...order('lazy'), snapshotPath: engine.snapshotPath('shop'), continues: false });
  await engine.snapshot('lazily', engine.snapshotPath('lazily'), false);
  const lazyWoken = await engine.restore({ ...order('lazily'), address: lazily.address, snapshotPath: engine.snapshotPath('lazily'), continues: true });
  for (const instance of [clone, woken, lazyClone, lazyWoken]) await engine.run(instance, 'return 1');
  await until('the lazy restores have learned', () => engine.hot().some((folder) => existsSync(`${folder}/first-pages`) && statSync(`${folder}/first-pages`).size > 0));
  /* While memory is on its way, /proc shows nothing of what is not there yet. */
  const told = ({ pid }: RunningInstance): boolean => readFileSync(`/proc/${pid}/environ`).length > 0 && readFileSync(`/proc/${pid}/cmdline`).length > 0;
  await until('their memory is there', () => told(lazyClone) && told(lazyWoken));
  return { engine, neighbour, booted, others: [['a clone', clone], ['one that slept', woken], ['a lazy clone', lazyClone], ['one that woke lazily', lazyWoken]] };
}
