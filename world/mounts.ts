import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from './command.ts';
import type { JournalWriter } from './journal.ts';
import type { EdgepointPlan, WorldPlan } from './plan.ts';

/** The clone may lie where other users cannot go (/root): daemons see it here, read-only. */
export async function bindRepository(plan: WorldPlan, source: string, journal: JournalWriter): Promise<void> {
  mkdirSync(plan.repository, { mode: 0o755 });
  journal.write({ made: 'mount', path: plan.repository });
  await must(['mount', '--bind', source, plan.repository]);
  await must(['mount', '-o', 'remount,bind,ro', plan.repository]);
}

/** A mount namespace can be pinned only on a mount that is private (mount_namespaces(7)); /run is shared under systemd. */
export async function makePinsFolder(plan: WorldPlan, journal: JournalWriter): Promise<void> {
  const folder = join(plan.runFolder, 'pins');
  mkdirSync(folder, { mode: 0o700 });
  journal.write({ made: 'mount', path: folder });
  await must(['mount', '--bind', folder, folder]);
  await must(['mount', '--make-private', folder]);
}

/**
 * The mount namespace that snapd and restored of one edgepoint share. Its /run is a tmpfs, for criu keeps what it learns of the
 * kernel only there, with the world's run folder and the clone bound back. Instances' mounts exist only in it: when its
 * processes and this pin are gone, so are they.
 */
export async function pinMountNamespace(plan: WorldPlan, edgepoint: EdgepointPlan, journal: JournalWriter): Promise<void> {
  writeFileSync(edgepoint.mountPin, '');
  journal.write({ made: 'mount', path: edgepoint.mountPin });
  const script = `set -eu
aside=$1; world=$2; repository=$3
mkdir -p "$aside"
mount -t tmpfs -o mode=755 edgepoint-run "$aside"
mkdir -p "$aside/\${world#/run/}"
mount --bind "$world" "$aside/\${world#/run/}"
mount --bind "$repository" "$aside/\${repository#/run/}"
mount -o remount,bind,ro "$aside/\${repository#/run/}"
mount --no-mtab --move "$aside" /run`;
  await must(['unshare', `--mount=${edgepoint.mountPin}`, '--propagation', 'private', 'sh', '-c', script, 'sh', '/mnt', plan.runFolder, plan.repository]);
}
