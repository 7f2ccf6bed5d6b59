import { join } from 'node:path';
import { connectBus } from '../host/bus.ts';
import { natsServerConfig, newBusUser } from '../host/credentials.ts';
import type { BusUser, Role } from '../host/credentials.ts';
import type { Log } from '../host/log.ts';
import { prepareStreams } from '../host/streams.ts';
import { Failure } from '../kit/errors.ts';
import type { Site } from '../kit/ids.ts';
import { daemonFolder, natsConfigPath, natsStoreFolder, seedPath } from './daemons.ts';
import type { Daemon } from './daemons.ts';
import type { WorldPlan } from './plan.ts';
import { users, writePrivateFile } from './users.ts';

export interface WorldBus {
  /** Makes buckets and streams; call it when the server is up. */
  prepareStreams(): Promise<void>;
}

const natsUser = { uid: users.nats, gid: users.nats };
const upDeadlineMs = 10_000;

/**
 * A new bus user for each daemon at every start of the world: the seed goes into a file only that daemon's user can read, the
 * public key into the server's config. What the server stores belongs to accounts, so it outlives the users.
 */
export async function prepareBus(plan: WorldPlan, daemons: readonly Daemon[]): Promise<WorldBus> {
  const operator = newBusUser('operator', null);
  const made: BusUser[] = [operator.user];
  for (const daemon of daemons) {
    const holder = busRole(plan, daemon.name);
    if (holder === null) continue;
    const { user, seed } = newBusUser(holder.role, holder.site);
    writePrivateFile(seedPath(plan, daemon.name), seed, daemon.user);
    made.push(user);
  }
  const text = natsServerConfig({
    operator: 'operator',
    serverName: `edgepoint-${plan.id}`,
    listen: `${plan.hostIpv4}:4222`,
    storeFolder: natsStoreFolder(plan),
    users: made,
    pidFile: join(daemonFolder(plan, 'nats-server'), 'nats-server.pid'),
  });
  writePrivateFile(natsConfigPath(plan), text, natsUser);
  return { prepareStreams: () => makeStreams(plan, operator.seed) };
}

/** A person watches the world come up: of this short connection only troubles are worth a line, and they end in a Failure. */
const quietLog: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, with: () => quietLog };

/** Null for a daemon that does not speak on the bus. */
function busRole(plan: WorldPlan, name: string): { role: Role; site: Site | null } | null {
  if (name === 'conduit' || name === 'metering' || name === 'global-dispatcher' || name === 'certificates') return { role: name, site: null };
  const edgepoint = plan.edgepoints.find((site) => name === `${site.edgepoint}-head`);
  return edgepoint === undefined ? null : { role: 'edgepoint', site: { zone: edgepoint.zone, edgepoint: edgepoint.edgepoint } };
}

async function makeStreams(plan: WorldPlan, seed: string): Promise<void> {
  const bus = await connectBus({ url: plan.natsUrl, seed, name: 'world' }, quietLog);
  try {
    const deadline = Date.now() + upDeadlineMs;
    while (!bus.up) {
      if (Date.now() > deadline) throw new Failure('bus-away', `nats-server on ${plan.natsUrl} took no connection of the operator within ${upDeadlineMs / 1000} s.`);
      await Bun.sleep(10);
    }
    await prepareStreams(
      bus,
      plan.edgepoints.map(({ zone, edgepoint }) => ({ zone, edgepoint })),
    );
  } finally {
    await bus.close();
  }
}
