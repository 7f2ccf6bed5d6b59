import { existsSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { Failure, messageOf } from '../kit/errors.ts';
import { bytesPerMebibyte } from '../kit/units.ts';
import { type Handlers, listenForPeers, type Peer } from '../host/calls.ts';
import { openClock } from '../host/clock.ts';
import { readSettings } from '../host/config.ts';
import { requireRoot } from './box/root.ts';
import { serveHealth } from '../host/health.ts';
import { openLog } from '../host/log.ts';
import { openMetrics } from '../host/metrics.ts';
import { tools } from '../host/tools.ts';
import { readZramSwap } from '../host/zram.ts';
import { gatewayOf, parseSubnet } from './box/address.ts';
import { cgroupOf, cgroupVersion, prepareCgroupParents } from './box/cgroup.ts';
import { boxPlaces } from './box/folders.ts';
import { prepareDev } from './box/dev.ts';
import { becomeChildSubreaper, keepBreakpointsReady, pageFaultsMayBeAnswered } from './box/kernel.ts';
import { bridge, parseMirrors, prepareBridge, prepareOwnRanges } from './box/network.ts';
import { openOrphanReaper } from './box/orphans.ts';
import { openSlotPool } from './box/slot.ts';
import { allRecords } from './box/record.ts';
import { openKernelPath } from './kernel-path/open.ts';
import { heldMark, heldQueue } from './kernel-path/table.ts';
import type { Demand, DispatcherCalls, RestoredCalls, SessionCalls } from './model/calls.ts';
import { publicText } from '../host/wrap.ts';
import { lazyFromBytes } from './restored/choose-restore.ts';
import { openCourtesy } from './restored/courtesy.ts';
import { openExitWatch } from './restored/exit-watch.ts';
import { openFreezing } from './restored/freezing.ts';
import { openPagers } from './restored/pagers.ts';
import { type Instances, openInstances } from './restored/instances.ts';
import { openSecrets } from './restored/secrets.ts';
import { openSessions } from './restored/sessions.ts';
import { openStoreSurroundings } from './template-store.ts';
import { type HotCache, openHotCache } from './templates/hot-cache.ts';

/** What pagers of frozen instances and zram hold together, at most: as much as the set-up lets zram hold alone. */
const frozenBytesMax = Math.floor(totalmem() / 4);
/** An eighth of the machine, at most 2 GiB: a big app whose snapshot does not fit is unpacked at each wake, which takes it a second. */
const hotBytesDefault = Math.min(2048 * bytesPerMebibyte, Math.max(256 * bytesPerMebibyte, Math.floor(totalmem() / 8)));

const settingsSchema = z.object({
  world: z.string().default('main').describe('names the cgroups and namespaces made, so that two can stand side by side'),
  zone: z.string().describe('the zone of this edgepoint'),
  edgepoint: z.string().describe('the name of this edgepoint'),
  runFolder: z.string().describe('sockets and records; lost at a reboot'),
  dataFolder: z.string().describe('snapshots, volumes'),
  subnet: z.string().describe('IPv4 subnet of instances, for example 10.1.16.0/20'),
  ownIpv4: z.string().default('').describe("IPv4 range of the apps' own addresses, for example 192.0.2.16/28; empty for none"),
  ownIpv6: z.string().default('').describe("IPv6 prefix of the apps' own addresses, routed to this edgepoint, for example 2001:db8:1::/64; empty for none"),
  ownPorts: z.string().default('').describe("where there is no IPv4 range: ports of this edgepoint's own IPv4 address for apps, for example 20000-20999; empty for none"),
  ipv4: z.string().default('').describe('the IPv4 address of this edgepoint whose ports those are'),
  mirrors: z.string().default('').describe('where packages come from in a private range, for example 10.1.0.1:4873; several separated by commas. Instances may reach these beside the public internet'),
  poolSize: z.coerce.number().int().min(1).max(64).default(8).describe('slots (network namespace, cgroups, a waiting edgepoint-box) made beforehand'),
  lazyFromBytes: z.coerce.number().int().min(0).default(lazyFromBytes).describe('from this much memory on, a restored instance runs before its memory is filled'),
  health: z.string().default('').describe("where health and metrics are served: 'unix:/path' or host:port; empty for nowhere"),
  boxProgram: z.string().default(tools.box).describe('the edgepoint-box program'),
  criu: z.string().default(tools.criu).describe('the CRIU program'),
  baseRoot: z.string().default(tools.baseRoot).describe('the base root filesystem of instances'),
  imageBase: z.string().default(tools.imageBase).describe('what lies below the root of an image: the clone guard, the resolver, and nothing else'),
  keyFolder: z.string().default('').describe('keys of snapshots, for root alone; empty for `keys` in the data folder'),
  hotBytes: z.coerce.number().int().min(0).default(hotBytesDefault).describe('memory for unpacked snapshots that no running instance stands on; 0 to unpack for each wake'),
});

/** The process `edgepoint restored`: starts and ends instances for the head. Needs root. */
export async function runRestored(argv: readonly string[]): Promise<void> {
  const settings = await readSettings(
    { name: 'edgepoint restored', about: 'starts instances, by a boot or from a snapshot, and ends them', prefix: 'EDGEPOINT', schema: settingsSchema },
    argv,
    process.env,
  );
  requireRoot('edgepoint restored');
  const unguarded = [settings.baseRoot, settings.imageBase].find((root) => !existsSync(join(root, tools.guard)));
  if (unguarded !== undefined) {
    throw new Failure('no-clone-guard', `there is no ${tools.guard} in ${unguarded}, so clones would share random numbers`, { remedy: 'run the set-up: sh images/host/bootstrap.sh images/host/main.ts' });
  }
  const log = openLog('restored').with({ zone: settings.zone, edgepoint: settings.edgepoint });
  const { runFolder } = settings;
  const clock = openClock();
  const metrics = openMetrics('restored');
  const tookMs = metrics.histogram('edgepoint_start_ms', 'Time to start an instance', ['how'], [5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 200, 500, 1000, 5000]);
  const failures = metrics.counter('edgepoint_start_failures_total', 'Starts that failed', ['how', 'code']);

  becomeChildSubreaper();
  keepBreakpointsReady();
  const version = cgroupVersion();
  prepareCgroupParents(cgroupOf(version, settings.world, settings.edgepoint, 'any'));
  prepareDev(boxPlaces(runFolder).dev);
  const subnet = parseSubnet(settings.subnet);
  await prepareBridge(subnet, settings.subnet, parseMirrors(settings.mirrors));
  const ranges = { ipv4: settings.ownIpv4, ipv6: settings.ownIpv6, ports: settings.ownPorts, sharedIpv4: settings.ipv4 };
  const hasOwnRanges = ranges.ipv4 !== '' || ranges.ipv6 !== '' || ranges.ports !== '';
  if (hasOwnRanges) await prepareOwnRanges(subnet, ranges, { mark: heldMark, queue: heldQueue });
  const place = { world: settings.world, edgepoint: settings.edgepoint, boxProgram: settings.boxProgram, criu: settings.criu, cgroupVersion: version };
  const inUse = new Set(allRecords(runFolder).map((record) => record.slot));
  const slots = await openSlotPool(place, { size: settings.poolSize, inUse });

  const peers = new Set<Peer>();
  const orphans = openOrphanReaper();
  const uses = metrics.counter('edgepoint_snapshot_uses_total', 'Restores by whether their snapshot was unpacked already', ['hot']);
  const hotBytes = metrics.gauge('edgepoint_hot_snapshot_bytes', 'Memory of unpacked snapshots: tmpfs, not resident memory of any process');
  const hotSnapshots = metrics.gauge('edgepoint_hot_snapshots', 'Unpacked snapshots');
  const frozenBytes = metrics.gauge('edgepoint_frozen_store_bytes', 'Memory that pagers hold for instances, compressed');
  const behind = metrics.gauge('edgepoint_instances_behind', 'Instances that use the processor all the time, so that others go before them');
  const store = openStoreSurroundings(settings);
  const templates: HotCache = openHotCache({
    folder: store.folder,
    bytesMax: settings.hotBytes,
    ports: store.ports,
    here: store.here,
    layersInUse: () => instances.layers(),
    wallMs: clock.wallMs,
    onUse: ({ hot }) => uses.inc({ hot: String(hot) }),
    onChange: ({ bytes, snapshots }) => {
      hotBytes.set({}, bytes);
      hotSnapshots.set({}, snapshots);
    },
  });
  const machineAllows = pageFaultsMayBeAnswered();
  const tellPagers = (peer: Peer, heldBytes: number): void => void (machineAllows && peer.tell('pagersHold', { heldBytes, heldBytesMax: frozenBytesMax }));
  const pagers = openPagers({
    runFolder,
    boxProgram: settings.boxProgram,
    clock,
    machineAllows,
    heldBytesMax: () => frozenBytesMax - (readZramSwap()?.heldBytes ?? 0),
    onChange: (bytes) => {
      frozenBytes.set({}, bytes);
      for (const peer of peers) tellPagers(peer, bytes);
    },
    expectOrphan: orphans.expect,
    note: (text, fields) => log.info(text, fields),
  });
  const instances: Instances = openInstances({
    place,
    templates,
    openSecrets: (order) => openSecrets(order, store.ports.site, store.ports.keys.openingKey),
    baseRootName: store.baseRootName,
    runFolder,
    subnet,
    ipv6: ranges.ipv6 !== '',
    baseRoot: settings.baseRoot,
    imageBase: settings.imageBase,
    guard: tools.guard,
    clock,
    slots,
    lazy: { machineAllows, lazyFromBytes: settings.lazyFromBytes },
    orphans,
    freezing: openFreezing({ boxProgram: settings.boxProgram, clock, swaps: () => readZramSwap() !== null, pagers }),
    pagers,
    sessions: openSessions({ runFolder, boxProgram: settings.boxProgram, expectOrphan: orphans.expect, warn: (text, fields) => log.warn(text, fields) }),
    courtesy: openCourtesy({ clock, note: (text, fields) => log.info(text, fields), onChange: (count) => behind.set({}, count) }),
    tell: (news) => {
      for (const peer of peers) peer.tell('exited', news);
    },
    note: (text, fields) => log.debug(text, fields),
    warn: (text, fields) => log.warn(text, fields),
  });
  const fail = (thrown: unknown): void => log.error('an ended instance could not be cleaned up', { reason: messageOf(thrown) });
  const watch = openExitWatch(
    settings.boxProgram,
    (pid) => void instances.exited(pid).catch(fail),
    () => {
      log.error('the watch over processes is lost; restarting');
      process.exit(1); // whoever supervises starts us again, and recover() watches everything anew
    },
  );
  await instances.recover(watch);
  templates.begin();

  async function measured<T extends { tookMs: number; stepsMs: unknown }>(how: string, instance: string, work: Promise<T>): Promise<T> {
    try {
      const started = await work;
      tookMs.observe({ how }, started.tookMs);
      log.info(`${how} done`, { instance, tookMs: started.tookMs, stepsMs: started.stepsMs });
      return started;
    } catch (error) {
      failures.inc({ how, code: (error as { code?: string }).code ?? 'unexpected' });
      log.warn(`${how} failed`, { instance, reason: messageOf(error) });
      throw error;
    }
  }
  const restart = (text: string): void => {
    log.error(`${text}; restarting`);
    process.exit(1);
  };
  const ownPath = !hasOwnRanges
    ? null
    : await openKernelPath({
        ranges,
        bridge,
        subnet: { address: gatewayOf(subnet), prefixLength: subnet.prefixLength },
        boxProgram: settings.boxProgram,
        clock,
        tell: (demand: Demand) => {
          for (const peer of peers) peer.tell('ownDemand', demand);
        },
        warn: (text, fields) => log.warn(text, fields),
        onLost: () => restart('the process that holds packets is lost'),
      });
  type Order<Call extends keyof RestoredCalls> = Parameters<RestoredCalls[Call]>[0];
  const server = listenForPeers(
    join(runFolder, 'restored.sock'),
    {
      boot: (order: Order<'boot'>) => measured('boot', order.instance, instances.boot(order)),
      restore: (order: Order<'restore'>) => measured('restore', order.instance, instances.restore(order)),
      stop: (order: Order<'stop'>) => instances.stop(order),
      freeze: (order: Order<'freeze'>) => instances.freeze(order),
      thaw: (order: Order<'thaw'>) => instances.thaw(order),
      list: () => instances.list(),
      enter: (order: Parameters<SessionCalls['enter']>[0]) => instances.enter(order),
      opens: () => Promise.resolve(publicText(store.ports.keys.openingKey())),
      ...(ownPath === null ? {} : ownPathCalls(ownPath)),
    },
    {
      log,
      onPeer: (peer) => {
        peers.add(peer);
        tellPagers(peer, pagers.heldBytes());
        ownPath?.tellAll();
        void peer.closed.then(() => peers.delete(peer));
      },
    },
  );
  const health = settings.health ? serveHealth({ listen: settings.health, metrics, check: () => ({ ok: true, detail: {} }) }) : null;
  log.info('restored is up', { cgroupVersion: version, subnet: settings.subnet });

  process.on('SIGTERM', () => {
    server.stop();
    health?.stop();
    watch.stop();
    orphans.stop();
    ownPath?.stop();
    slots.close();
    templates.close();
    process.exit(0); // instances live on: the next restored adopts them
  });
}

/** What the head orders of own addresses: as it orders of the local dispatcher. */
function ownPathCalls(path: DispatcherCalls): Handlers {
  return {
    ownRoutes: (routes: Parameters<DispatcherCalls['routes']>[0]) => path.routes(routes),
    ownRoute: (route: Parameters<DispatcherCalls['route']>[0]) => path.route(route),
    removeOwnRoute: (owner: Parameters<DispatcherCalls['removeRoute']>[0]) => path.removeRoute(owner),
    ownDrain: (order: Parameters<DispatcherCalls['drain']>[0]) => path.drain(order),
    ownUnpark: (order: Parameters<DispatcherCalls['unpark']>[0]) => path.unpark(order),
  } as Handlers;
}
