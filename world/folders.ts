import { join } from 'node:path';
import { certificatesFolder, daemonFolder, natsStoreFolder } from './daemons.ts';
import type { Daemon } from './daemons.ts';
import type { WorldPlan } from './plan.ts';
import { makeFolder, rootUser, socketGroup, users } from './users.ts';

export const logFolder = (plan: WorldPlan): string => join(plan.dataFolder, 'logs');

/** Every folder a daemon writes to, owned by its user: the daemons themselves may make nothing above. */
export function makeFolders(plan: WorldPlan, daemons: readonly Daemon[]): void {
  makeFolder(plan.runFolder, rootUser, 0o755);
  makeFolder(join(plan.runFolder, 'daemons'), rootUser, 0o711);
  for (const daemon of daemons) makeFolder(daemonFolder(plan, daemon.name), daemon.user, 0o700);
  makeFolder(plan.dataFolder, rootUser, 0o755);
  makeFolder(logFolder(plan), rootUser, 0o755);
  makeFolder(natsStoreFolder(plan), { uid: users.nats, gid: users.nats }, 0o700);
  makeFolder(join(plan.dataFolder, 'metering'), { uid: users.metering, gid: users.metering }, 0o700);
  makeFolder(join(plan.dataFolder, 'global-dispatcher'), { uid: users.globalDispatcher, gid: users.globalDispatcher }, 0o700);
  if (plan.acme !== null) makeFolder(join(plan.dataFolder, 'certificates'), { uid: users.certificates, gid: users.certificates }, 0o700);
  makeFolder(join(plan.dataFolder, 'conduit'), { uid: users.conduit, gid: users.conduit }, 0o700);
  makeFolder(join(plan.dataFolder, 'conduit/uploads'), { uid: users.conduit, gid: users.conduit }, 0o700);
  plan.edgepoints.forEach((edgepoint, index) => {
    const group = socketGroup(index);
    const head = { uid: users.head + index, gid: group };
    // Sockets made in it get its group (set-gid), and nobody may remove another's (sticky).
    makeFolder(edgepoint.runFolder, { uid: 0, gid: group }, 0o3775);
    makeFolder(edgepoint.dataFolder, rootUser, 0o755);
    for (const name of ['head', 'artefacts', 'downloads', 'checks', 'builds']) makeFolder(join(edgepoint.dataFolder, name), head, 0o755);
    for (const name of ['snapshots', 'kept']) makeFolder(join(edgepoint.dataFolder, name), rootUser, 0o755);
    makeFolder(certificatesFolder(edgepoint), { uid: users.dispatcher + index, gid: group }, 0o700);
    // restored makes the images, the head removes those of a deleted app: what is made in it belongs to their group.
    makeFolder(join(edgepoint.dataFolder, 'volumes'), { uid: 0, gid: group }, 0o2775);
  });
}
