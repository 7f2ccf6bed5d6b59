import { natsConfigPath, natsStoreFolder } from './daemons.ts';
import type { Daemon } from './daemons.ts';
import type { WorldPlan } from './plan.ts';
import { users, writePrivateFile } from './users.ts';

export interface WorldBus {
  /** Call it when the server is up. */
  prepareStreams(): Promise<void>;
}

/** Writes the server's config. */
export async function prepareBus(plan: WorldPlan, daemons: readonly Daemon[]): Promise<WorldBus> {
  void daemons;
  const text = `server_name: edgepoint-${plan.id}\nlisten: "${plan.hostIpv4}:4222"\njetstream { store_dir: "${natsStoreFolder(plan)}" }\n`;
  writePrivateFile(natsConfigPath(plan), text, { uid: users.nats, gid: users.nats });
  return { prepareStreams: async () => undefined };
}
