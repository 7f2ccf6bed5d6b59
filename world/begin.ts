import { existsSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, resolve } from 'node:path';
import { randomBytes } from 'node:crypto';
import { Failure } from '../kit/errors.ts';
import { chooseRanges } from './addresses.ts';
import { cleanDeadWorlds, withWorldsLock } from './clean.ts';
import { currentBootId, journalledWorlds, openJournal, processIdentity, readJournal, supervisorIsAlive } from './journal.ts';
import type { JournalWriter, WorldEntry } from './journal.ts';
import { prepareNetnsFolder, takenRanges } from './network.ts';
import { defaultDataFolder, planWorld, worldIdFrom, worldIdPattern } from './plan.ts';
import type { AcmePlan, WorldPlan } from './plan.ts';

export interface WorldOptions {
  /** Four characters of [0-9a-z]; null: a free one is chosen. */
  readonly id: string | null;
  /** Where the conduit listens: an IPv4 address of this machine, or 0.0.0.0. */
  readonly conduitHost: string;
  /** 0: any free one. */
  readonly conduitPort: number;
  /** Kept when the world ends; null: a temporary one. */
  readonly dataFolder: string | null;
  /** Where certificates are asked for; null: nowhere. */
  readonly acme: AcmePlan | null;
  readonly npmRegistry?: string;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/**
 * Under the lock of all worlds: removes what dead ones left, chooses id and addresses that meet neither the machine's routes nor
 * another world's, and writes the journal's first line. Afterwards the world exists, though it holds nothing yet.
 */
export async function beginWorld(options: WorldOptions): Promise<{ plan: WorldPlan; journal: JournalWriter }> {
  if (process.getuid?.() !== 0) {
    throw new Failure('not-root', 'A world makes network namespaces, mounts and snapshots, so it must be started as root.', { remedy: 'Try again with sudo.' });
  }
  const conduitPort = await choosePort(options.conduitHost, options.conduitPort);
  const dataFolder = options.dataFolder === null ? null : resolve(options.dataFolder);
  if (dataFolder !== null) requireReachable(dataFolder);
  return withWorldsLock(options.say, async () => {
    await cleanDeadWorlds(options.say);
    await prepareNetnsFolder();
    const alive = journalledWorlds().flatMap((id) => readJournal(id).world ?? []);
    const id = chooseId(options.id, alive);
    if (dataFolder !== null) requireUnused(dataFolder, alive);
    const chosen = chooseRanges(seedOf(id), [...(await takenRanges()), ...alive.flatMap((world) => world.ranges)]);
    if (!chosen.ok) throw new Failure('no-free-addresses', `No address range is free for a world: ${chosen.reason}.`, { remedy: 'End another world, or remove routes to private ranges.' });
    const plan = planWorld({ id, ranges: chosen.ranges, dataFolder: dataFolder ?? defaultDataFolder(id), conduitHost: options.conduitHost, conduitPort, acme: options.acme, ...(options.npmRegistry === undefined ? {} : { npmRegistry: options.npmRegistry }) });
    const journal = openJournal(id);
    journal.write(firstLine(plan, dataFolder !== null));
    return { plan, journal };
  });
}

function firstLine(plan: WorldPlan, keepData: boolean): WorldEntry {
  const supervisor = processIdentity(process.pid);
  if (supervisor === null) throw new Error('broken invariant: a process finds itself in /proc');
  const ranges = [`${plan.ranges.ipv4Prefix}.0.0/16`, `${plan.ranges.ipv6Prefix}::/48`];
  return { made: 'world', id: plan.id, supervisor, bootId: currentBootId(), ranges, dataFolder: plan.dataFolder, keepData };
}

function chooseId(wanted: string | null, alive: readonly WorldEntry[]): string {
  if (wanted === null) {
    for (;;) {
      const id = worldIdFrom(randomBytes(4));
      if (!alive.some((world) => world.id === id)) return id;
    }
  }
  if (!worldIdPattern.test(wanted)) throw new Failure('bad-world-id', `${JSON.stringify(wanted)} is no id of a world.`, { remedy: 'It has four characters of a to z and 0 to 9, for instance k3f9.' });
  const other = alive.find((world) => world.id === wanted);
  if (other !== undefined && supervisorIsAlive(readJournal(wanted))) {
    throw new Failure('world-is-up', `World ${wanted} is up already (process ${other.supervisor.pid}).`, { remedy: 'Choose another id, or end that one with Ctrl-C.' });
  }
  return wanted;
}

const temporaryWorlds = dirname(defaultDataFolder('any'));

const seedOf = (id: string): number => Number.parseInt(id, 36);

/** A port that can be listened on; between this look and the conduit's start another program may take it, then the conduit says so. */
async function choosePort(host: string, wanted: number): Promise<number> {
  const server = createServer();
  const opened = Promise.withResolvers<number>();
  server.once('error', (error) => {
    opened.reject(
      new Failure('port-in-use', `Port ${wanted} on ${host} is needed for the conduit and cannot be had: ${error.message}.`, {
        remedy: 'Another world may be up. Choose another port with --port NUMBER, or --port 0 for any free one.',
        cause: error,
      }),
    );
  });
  server.listen(wanted, host, () => {
    const address = server.address();
    opened.resolve(typeof address === 'object' && address !== null ? address.port : wanted);
  });
  try {
    return await opened.promise;
  } finally {
    server.close();
  }
}

/** Daemons run as users that must be able to walk down to their data. */
function requireReachable(folder: string): void {
  if (folder === temporaryWorlds || folder.startsWith(`${temporaryWorlds}/`)) {
    throw new Failure('data-not-kept', `--data ${folder}: what lies in ${temporaryWorlds} is temporary and is removed by the next clean-up.`, { remedy: 'Choose a folder such as /var/lib/edgepoint/data.' });
  }
  for (let path = folder; path !== dirname(path); path = dirname(path)) {
    if (existsSync(path) && (statSync(path).mode & 0o001) === 0) {
      throw new Failure('data-not-reachable', `--data ${folder}: ${path} is closed to other users, and the daemons run as such.`, {
        remedy: 'Choose a folder such as /var/lib/edgepoint/data.',
      });
    }
  }
}

function requireUnused(folder: string, alive: readonly WorldEntry[]): void {
  const other = alive.find((world) => world.dataFolder === folder);
  if (other !== undefined) throw new Failure('data-in-use', `--data ${folder} is in use by world ${other.id}.`, { remedy: 'End that world first, or choose another folder.' });
}
