import type { SessionOrder } from '../../kit/wire/session.ts';
import type { BootOrder, BoxOrder, EnterOrder, RestoreOrder, VolumeOrder } from './calls.ts';
import type { ReleaseOrder } from './app.ts';
import { type FileValues, fillText } from './files.ts';
import type { DataPaths } from './paths.ts';
import type { Offering } from './offering.ts';
import { findOffering } from './offering.ts';
import { Failure } from '../../kit/errors.ts';

/** Two instances that write one volume would destroy it, so whatever uses an unshared one runs once at a time. */
export function writesAlone(order: ReleaseOrder): boolean {
  return order.manifest.volume.some((volume) => !volume.shareable);
}

/** There is one instance of an app that keeps its state, and of one that writes a volume of its own. */
export function runsAlone(order: ReleaseOrder): boolean {
  return order.manifest.state === 'keep' || writesAlone(order);
}

/** The offering of a release; a name this edgepoint does not know is the provider's mistake. */
export function offeringOf(order: ReleaseOrder): Offering {
  const offering = findOffering(order.manifest.offering);
  if (offering === undefined) {
    throw new Failure('unknown-offering', `this edgepoint has no service offering "${order.manifest.offering}"`, {
      remedy: 'name one of: small, medium, large',
    });
  }
  return offering;
}

/** What is known of an instance before it is made; the rest of the names in braces is left to restored. */
function valuesOf(order: ReleaseOrder): FileValues {
  return { app: order.owner.app, release: String(order.release), host: order.hosts[0] ?? order.owner.app };
}

function filledEnv(order: ReleaseOrder, env: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).map(([name, value]) => [name, fillText(value, valuesOf(order))]));
}

function boxOrder(order: ReleaseOrder, instance: string, address: string | null, paths: DataPaths): BoxOrder {
  const volumes: VolumeOrder[] = order.manifest.volume.map((volume) => ({
    name: volume.name,
    imagePath: paths.volume(order.owner, volume.name),
    sizeBytes: volume.sizeMegabytes * 1024 * 1024,
    mountPath: volume.path,
  }));
  return {
    instance,
    owner: order.owner,
    release: order.release,
    uidSlot: order.uidSlot,
    offering: offeringOf(order),
    artefactPath: paths.artefact(order.artefactDigest),
    volumes,
    hostname: order.owner.app,
    // A release that was stored before there were files (or processes) has none.
    files: (order.manifest.file ?? []).map(({ path, text }) => ({
      path,
      text: fillText(text, valuesOf(order)),
    })),
    ...(order.secrets === undefined ? {} : { secrets: order.secrets }),
    ...(order.manifest.image === undefined ? {} : { image: true as const }),
    ...(order.manifest.user === undefined ? {} : { user: order.manifest.user }),
    ownNetwork: order.manifest.state === 'keep',
    address,
  };
}

/**
 * The environment of an instance. What the manifest says wins over ours only for other names: PORT and the EDGEPOINT_ names
 * are always true. A clone has the environment of the instance its template was taken from, EDGEPOINT_INSTANCE included.
 */
export function instanceEnv(order: ReleaseOrder, instance: string): Record<string, string> {
  return {
    ...filledEnv(order, order.manifest.env),
    PORT: String(order.manifest.port),
    EDGEPOINT_APP: order.owner.app,
    EDGEPOINT_RELEASE: String(order.release),
    EDGEPOINT_INSTANCE: instance,
  };
}

export function bootOrder(order: ReleaseOrder, instance: string, address: string | null, paths: DataPaths): BootOrder {
  return {
    ...boxOrder(order, instance, address, paths),
    command: order.manifest.command,
    ...(order.manifest.workingDirectory === undefined ? {} : { workingDirectory: order.manifest.workingDirectory }),
    env: instanceEnv(order, instance),
    processes: (order.manifest.process ?? []).map((one) => ({ ...one, env: filledEnv(order, one.env) })),
  };
}

/** As `edgepoint/box/box.h` has it. */
const initPath = '/run/edgepoint/init';

/**
 * A release whose instance runs nothing but what is then started in it (`edgepoint-box hold`). Failure `volume-alone` where it would write a
 * volume that another instance may be writing, or may be woken to write.
 */
export function heldOrder(order: ReleaseOrder): ReleaseOrder {
  if (writesAlone(order)) {
    const remedy = `Run it where the volume is: conduit ssh ${order.owner.app} -- COMMAND`;
    throw new Failure('volume-alone', `a volume of ${order.owner.app} has one writer at a time, which an instance beside the app’s own would not be`, { remedy });
  }
  return { ...order, manifest: { ...order.manifest, command: [initPath, 'hold'], process: [] } };
}

export function enterOrder(order: ReleaseOrder, instance: string, session: SessionOrder): EnterOrder {
  return {
    instance,
    command: session.command,
    terminal: session.terminal,
    ...(order.manifest.workingDirectory === undefined ? {} : { workingDirectory: order.manifest.workingDirectory }),
    env: instanceEnv(order, instance),
  };
}

export function restoreOrder(
  order: ReleaseOrder,
  instance: string,
  from: { snapshotPath: string; address: string | null; continues: boolean },
  paths: DataPaths,
): RestoreOrder {
  return { ...boxOrder(order, instance, from.address, paths), snapshotPath: from.snapshotPath, continues: from.continues };
}
