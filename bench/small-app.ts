import { chownSync, cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { exampleApp } from '../images/host/example-apps.ts';
import type { BoxOrder } from '../edgepoint/model/calls.ts';
import { type Offering, findOffering } from '../edgepoint/model/offering.ts';
import { type Engine, firstByte } from './engine.ts';

/** An app as benchmarks boot and restore it: an artefact in the engine's folder and a command; it listens on `appPort`. */
export interface BenchApp {
  readonly artefactPath: string;
  readonly command: readonly string[];
}

export const appPort = 8080;

/** The small app: express on Node 20. */
export function placeSmallApp(engine: Engine): BenchApp {
  return { artefactPath: placeArtefact(engine, 'small', exampleApp('hello')), command: ['node', 'server.js'] };
}

/** A folder as an artefact: `app` below a folder of an unprivileged owner. */
export function placeArtefact(engine: Engine, name: string, source: string): string {
  const folder = join(engine.dataFolder, name);
  mkdirSync(folder);
  cpSync(source, join(folder, 'app'), { recursive: true });
  chownSync(folder, 990, 990);
  if (Bun.spawnSync(['chown', '-R', '990:990', folder]).exitCode !== 0) throw new Error('chown');
  return folder;
}

export function boxOrder(instance: string, artefactPath: string): BoxOrder {
  const offering = findOffering('small') as Offering;
  const owner = { provider: 'bench', scope: 'main', app: 'bench' };
  return { instance, owner, release: 1, uidSlot: 9, offering, artefactPath, volumes: [], hostname: 'bench', ownNetwork: false, address: null };
}

/** Boots the app, lets it answer three times and takes its template, as a deploy does; the template's path. */
export async function makeTemplate(engine: Engine, name: string, app: BenchApp): Promise<string> {
  const snapshotPath = join(engine.dataFolder, `${name}.template`);
  const instance = `template-${name}`;
  const { address } = await engine.instances.boot({ ...boxOrder(instance, app.artefactPath), command: app.command, env: { PORT: `${appPort}` } });
  for (let warm = 0; warm < 3; warm += 1) await firstByte(address, appPort);
  const taken = await engine.snapshots.snapshot({ instance, snapshotPath, keepRunning: true });
  await engine.instances.stop({ instance, graceMs: 0 });
  return taken.snapshotPath;
}

const settleMs = 300; // after each run, so that making the next slots is not counted to the next contender
let count = 0;

/** Starts an instance of this name; milliseconds until its first byte. It is stopped before this returns. */
export async function timed(engine: Engine, start: (instance: string) => Promise<{ address: string }>): Promise<number> {
  const instance = `bench-${(count += 1)}`;
  const begunMs = performance.now();
  const { address } = await start(instance);
  await firstByte(address, appPort);
  const tookMs = performance.now() - begunMs;
  await engine.instances.stop({ instance, graceMs: 0 });
  await Bun.sleep(settleMs);
  return tookMs;
}
