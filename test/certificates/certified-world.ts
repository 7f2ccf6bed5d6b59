import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { openFaultWorld, until } from '../world/faults/fault-world.ts';
import type { FaultWorld } from '../world/faults/fault-world.ts';
import { openPebble } from './pebble.ts';
import type { Pebble } from './pebble.ts';
import { openResolver } from './resolver.ts';
import type { TestResolver } from './resolver.ts';

export interface CertifiedWorld {
  readonly world: FaultWorld;
  readonly pebble: Pebble;
  readonly resolver: TestResolver;
  /** PEM file of who signs what the authority issues. */
  readonly root: string;
}

/** A world whose edgepoints all have a certificate of the zone, from pebble. `args`: more options of `world.ts up`. */
export async function openCertifiedWorld(t: Test, args: readonly string[] = []): Promise<CertifiedWorld> {
  const id = Array.from({ length: 4 }, () => 'abcdefghjkmnpqrstvwxyz'[Math.floor(Math.random() * 22)]).join('');
  // The authority asks as soon as the world begins: where, stands in what the world writes before.
  const config = `/run/edgepoint/${id}/daemons/certificates/config.json`;
  const resolver = await openResolver(t, 'edge.test', () => (JSON.parse(readFileSync(config, 'utf8')) as { nameservers: string[] }).nameservers[0] ?? '');
  const pebble = await openPebble(t, { resolver: resolver.address });
  await pebble.start();
  const world = await openFaultWorld(t, ['--world', id, '--acme-directory', pebble.directoryUrl, '--acme-ca', pebble.caFile, '--acme-resolver', resolver.address, ...args]);
  const files = (dataFolder: string): string[] => readdirSync(join(dataFolder, 'certificates')).filter((name) => name.endsWith('.pem'));
  await until(() => `every edgepoint has the certificate\n${world.logOf('certificates')}`, () => world.edgepoints.every(({ dataFolder }) => files(dataFolder).includes('acme-edge.test.pem')), 60_000);
  const root = join(world.folder, 'root.pem');
  writeFileSync(root, await pebble.root());
  return { world, pebble, resolver, root };
}
