import type { Bus } from '../../host/bus.ts';
import type { Clock } from '../../kit/clock.ts';
import { isCanary, ownerKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { artefactBucket, layerObject } from '../../kit/wire/subjects.ts';
import { NewReleaseWatch } from '../canary/new-release.ts';
import { CanaryWatch } from '../canary/watch.ts';
import type { Cron } from '../cron/run.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { Demand } from '../model/calls.ts';
import { Checker } from '../deploy/check.ts';
import type { CheckPorts } from '../deploy/check.ts';
import type { DeployPorts } from '../deploy/ports.ts';
import { Deployer } from '../deploy/run.ts';
import { readCounters } from '../perf/counters.ts';
import type { ImageCalls } from '../model/calls.ts';
import type { VolumeCalls } from '../model/volumes.ts';
import { pauseApp, startPreparation } from '../resources/preparations.ts';
import type { ResourceManager } from '../resources/run.ts';
import { guestEntry } from '../resources/state.ts';
import { notListening } from '../resources/why.ts';
import type { OwnAddresses } from './own-addresses.ts';
import { sleepMs } from './timers.ts';
import { openVolumeLink } from './volumes.ts';
import type { VolumeLink } from './volumes.ts';
import type { VolumeLimits, VolumeRecords } from '../volumes/ports.ts';

export interface DeploysAbout extends Pick<DeployPorts, 'clock' | 'paths' | 'snapd' | 'probe' | 'tell' | 'warn'> {
  readonly site: Site;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly images: ImageCalls;
  readonly records: DeployPorts['records'] & VolumeRecords;
  readonly ofVolumes: { readonly calls: VolumeCalls; readonly limits: VolumeLimits };
  readonly exchange: NonNullable<DeployPorts['shared']>;
  readonly manager: ResourceManager;
  /** Known by the time of the first wish. */
  ownAddresses(): OwnAddresses;
  cron(): Cron;
  /** Another release of an app serves. */
  served(app: string): void;
  lastWords(logPath: string): string;
  readonly build: CheckPorts['build'];
  readonly checksFolder: string;
  newFolderName(): string;
}

/** What judges releases by their answers. */
export interface ReleaseWatches {
  serves(order: ReleaseOrder): void;
  note(demand: Demand): void;
}

/** Composes what makes releases serve: the deployer, checks, the watches over canaries and new releases, and what is done about their volumes. */
export function composeDeploys(about: DeploysAbout): { readonly deployer: Deployer; readonly checker: Checker; readonly watches: ReleaseWatches; readonly volumes: VolumeLink } {
  const { site, bus, clock, paths, records, snapd, probe, exchange, manager, ownAddresses, cron, tell, warn } = about;
  const deployPorts: DeployPorts = {
    shared: exchange,
    clock,
    paths,
    snapd,
    probe,
    tell,
    records,
    warn,
    sleepMs,
    openArtefact: (digest) => bus.getObject(artefactBucket(site), digest),
    images: { ...about.images, openLayer: (provider, digest) => bus.getObject(artefactBucket(site), layerObject(provider, digest)) },
    giveOwnAddress: (order) => (isCanary(order.owner) ? Promise.resolve() : ownAddresses().give(order)),
    takeOwnAddress: (owner) => ownAddresses().take(owner),
    judgeProbe: notListening,
    readLogTail: async (logPath) => {
      // Its last lines may still be on their way to the file.
      await sleepMs(20);
      return about.lastWords(logPath);
    },
    readMemory: ({ cgroup }) => readCounters(cgroup)?.memoryBytes ?? null,
    boot: (order) => startPreparation(manager, order, 'prepare', { kind: 'boot', address: null }, sleepMs),
    restore: (order, snapshotPath) => startPreparation(manager, order, 'trial', { kind: 'restore', snapshotPath, address: null, continues: false }, sleepMs),
    serving: {
      want: (order) => {
        fresh.wanted(order, manager.state.apps.get(ownerKey(order.owner))?.serving?.order.release ?? null);
        manager.want(order);
        cron().wanted(order);
      },
      servingRelease: (owner) => manager.state.apps.get(ownerKey(owner))?.serving?.order.release ?? null,
      pause: (owner, reason) => pauseApp(manager, { owner, reason }, sleepMs),
      promote: (serving) => {
        manager.promote(serving);
        cron().serves(serving.order);
        watches.serves(serving.order);
        about.served(ownerKey(serving.order.owner));
      },
      reject: (owner, reason) => manager.reject(owner, reason),
      remove: (owner) => {
        cron().removed(owner);
        canaries.removed(owner);
        fresh.removed(owner);
        return manager.remove(owner).then(() => volumes.volumes.forgetApp(owner));
      },
    },
  };
  const deployer = new Deployer(deployPorts);
  const volumes = openVolumeLink({ bus, site, clock, records, ...about.ofVolumes, downloads: paths.downloads, manager, preparations: () => deployer.preparations, warn });
  const canaries = new CanaryWatch({
    bootNs: clock.bootNs,
    stop: (owner, reason, figures) => {
      const app = manager.state.apps.get(ownerKey(owner));
      const order = app?.desired ?? null;
      // What was counted is another release's, or it is stopped already.
      if (app === undefined || order === null || app.serving?.order.release !== order.release || app.stopped !== '') return;
      deployer.stopCanary(order, reason, figures).catch((failure: unknown) => warn('that a canary was stopped could not be recorded', { app: app.key, failure }));
    },
  });
  const fresh = new NewReleaseWatch({
    bootNs: clock.bootNs,
    stop: (order, reason, figures) => {
      const app = manager.state.apps.get(ownerKey(order.owner));
      if (app?.desired?.deployId === order.deployId && app.serving?.order.release === order.release) deployer.takeBack(order, { reason, figures });
    },
  });
  const watches: ReleaseWatches = {
    serves: (order) => {
      canaries.serves(order);
      fresh.serves(order);
    },
    note: (demand) => {
      canaries.note(demand);
      fresh.note(demand);
    },
  };
  const checker = new Checker({
    folder: about.checksFolder,
    snapd,
    preparations: deployer.preparations,
    build: about.build,
    newFolderName: about.newFolderName,
    warn,
    sleepMs,
    portsOf: (wish, checkPlaces) => {
      const guest = { app: guestEntry(wish.order.owner, wish.checkId), paths: checkPlaces };
      // It asks what preparing shows here.
      const { shared: _, ...own } = deployPorts;
      return {
        ...own,
        paths: checkPlaces,
        emptyVolumes: true,
        openArtefact: () => bus.getObject(artefactBucket(site), wish.object),
        boot: (order) => startPreparation(manager, order, 'prepare', { kind: 'boot', address: null }, sleepMs, guest),
        restore: (order, snapshotPath) => startPreparation(manager, order, 'trial', { kind: 'restore', snapshotPath, address: null, continues: false }, sleepMs, guest),
      };
    },
  });
  return { deployer, checker, watches, volumes };
}
