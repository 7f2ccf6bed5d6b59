import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { connectBus } from '../host/bus.ts';
import { connectToPeer, listenForPeers } from '../host/calls.ts';
import type { Handlers, PeerConnection } from '../host/calls.ts';
import { openClock } from '../host/clock.ts';
import { readSettings } from '../host/config.ts';
import { openDatabase } from '../host/database.ts';
import { serveHealth } from '../host/health.ts';
import { openLog } from '../host/log.ts';
import type { Log } from '../host/log.ts';
import { PackedTexts } from '../host/packed-texts.ts';
import { newId, ownerKey, siteKey } from '../kit/ids.ts';
import type { Site } from '../kit/ids.ts';
import { logMessage } from '../kit/wire/event.ts';
import { logSubject } from '../kit/wire/subjects.ts';
import { encodeMessage } from '../kit/wire/version.ts';
import { Cron } from './cron/run.ts';
import { openAccesses } from './head/access.ts';
import { followDesired } from './head/desired.ts';
import { CertificateLink } from './head/certificates.ts';
import { openBuilds } from './head/builds.ts';
import { composeDeploys } from './head/deploys.ts';
import { openMessageOutbox } from './head/event-outbox.ts';
import { frozenRoom } from './head/frozen-room.ts';
import { startHeartbeat } from './head/heartbeat.ts';
import { sleepMs, wakeAt, wakeIn } from './head/timers.ts';
import { QueueLink } from './head/queues.ts';
import { openOwnAddresses } from './head/own-addresses.ts';
import { openPerfLink } from './head/perf-link.ts';
import { appNow } from './head/app-now.ts';
import { holdSpendingLease } from './head/spending-lease.ts';
import { DispatcherLink, exchangeOver, imagesOver, restoredOver, secretsOver, sessionsOver, snapdOver, volumesOver } from './head/peers.ts';
import { openProbe } from './head/probe.ts';
import { operatorCalls } from './head/operator-calls.ts';
import { headMigrations, openRecords } from './head/records.ts';
import type { Remembered } from './head/records.ts';
import { settleAllKept, recall, wishAgain } from './head/recall.ts';
import { headSettings, settingsFacts } from './head/settings.ts';
import type { HeadSettings } from './head/settings.ts';
import { countedTell, openHeadMetrics } from './head/metrics.ts';
import { tellerOf } from './head/teller.ts';
import { publishState } from './head/publish-state.ts';
import { meteredRecords, storedAtStart } from './head/stored.ts';
import { Demands, KernelPathLink, Ways } from './head/ways.ts';
import type { DemandSource } from './head/ways.ts';
import { openTemplateExchange } from './head/template-exchange.ts';
import type { TemplateExchange } from './head/template-exchange.ts';
import { idPrefixes } from './model/app.ts';
import type { Demand, KernelCounters } from './model/calls.ts';
import type { PagersHold } from './model/frozen.ts';
import { checksFolder, dataPaths } from './model/paths.ts';
import { readCounters } from './perf/counters.ts';
import { startMeter } from './perf/meter.ts';
import type { Meter } from './perf/meter.ts';
import { openOutbox, waking } from './perf/outbox.ts';
import { startShipper } from './perf/shipper.ts';
import type { UsageState } from './perf/usage.ts';
import { noteWork } from './resources/note-work.ts';
import { reconcile } from './resources/recover.ts';
import { ResourceManager } from './resources/run.ts';
import { openState } from './resources/state.ts';
import { checkSuspect } from './resources/suspect.ts';

/** After a start, restored is asked once more: a start under way when the last head died is listed only when it has ended. */
const secondLookMs = 10_000;
const stopMs = 3000;
/** With the bus away, schedules wait so long for news of what is wanted. */
const cronWaitMs = 10_000;

/** The process `edgepoint head`; returns after SIGTERM or SIGINT. Instances run on. */
export async function runHead(argv: readonly string[]): Promise<void> {
  const settings = await readSettings(headSettings, argv, process.env);
  const log = openLog('head').with({ zone: settings.zone, edgepoint: settings.edgepoint });
  const stop = await startHead(settings, log);
  await new Promise<void>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  log.info('stopping; instances run on');
  await stop();
  process.exit(0);
}

/** Composes the rooms of the head; the returned function ends it. */
async function startHead(settings: HeadSettings, log: Log): Promise<() => Promise<void>> {
  const clock = openClock();
  const site: Site = { zone: settings.zone, edgepoint: settings.edgepoint };
  const paths = dataPaths(settings.dataFolder);
  for (const folder of ['artefacts', 'downloads', 'volumes']) mkdirSync(`${settings.dataFolder}/${folder}`, { recursive: true });
  const warn = (text: string, fields: Record<string, unknown>): void => log.warn(text, fields);
  const newIdOf = (prefix: string): string => newId(prefix, (count) => randomBytes(count));

  const client = await openDatabase({ url: settings.databaseUrl, migrations: headMigrations }, log);
  const seed = readFileSync(settings.natsSeedFile, 'utf8').trim();
  const bus = await connectBus({ url: settings.natsUrl, seed, name: `edgepoint head ${settings.zone}.${settings.edgepoint}` }, log);
  const messages = openMessageOutbox({
    append: (subject, text, id) => bus.append(subject, text, id),
    bootNs: clock.bootNs,
    onDropped: (failure) => warn('an event was refused', { failure }),
  });
  const metrics = openHeadMetrics(() => ({ apps: manager.state.apps.size, instances: [...manager.state.active].flatMap((app) => [...app.instances.values()].map((entry) => entry.facts.mode)), eventsDropped: messages.dropped }));
  const tell = countedTell(tellerOf({ site, clock, messages, newIdOf, log }), metrics);

  // ---- usage and logs ----
  let meter: Meter | null = null;
  const perf = openPerfLink({
    clock,
    meter: () => meter,
    onFault: warn,
    works: (instance, what) => noteWork(manager, instance, what),
    mayWork: ({ owner }) => (manager.state.apps.get(ownerKey(owner))?.serving?.order.manifest.scale.backgroundSeconds ?? 0) > 0,
    onChunk: (chunk) => {
      // A log line is worth less than memory: with the bus away it is dropped.
      if (bus.up) void bus.append(logSubject(site, chunk), encodeMessage(logMessage, chunk), newIdOf('log')).catch((failure: unknown) => log.debug('a log chunk was lost', { failure }));
    },
  });
  const records = meteredRecords(openRecords(client), (item) => meter?.stored(item));
  const usageOutbox = openOutbox(client);
  const shipper = startShipper({
    outbox: usageOutbox,
    append: (subject, text, id) => bus.append(subject, text, id),
    onFault: (failure) => log.debug('usage waits', { failure }),
  });

  // ---- the other processes ----
  const dispatcher = new DispatcherLink((method, failure) => warn('the dispatcher refused an order', { method, failure }));
  let pagers: PagersHold | null = null;
  const news: Handlers = {
    pagersHold: (told: PagersHold) => void (pagers = told),
    exited: (told: { instance: string; counters: KernelCounters; status: string }) => manager.noteExited(told.instance, told.counters, told.status),
    ownDemand: (demand: Demand) => noteDemand('own', demand),
  };
  const restoredLink: PeerConnection = connectToPeer(`${settings.runFolder}/restored.sock`, news, {
    log,
    onUp: () => {
      void look();
      void learnKey();
    },
    onDown: () => {
      ownPath.pause();
      demands.forget('own');
    },
  });
  const ownPath = new KernelPathLink(restoredLink, (method, failure) => warn('the kernel path refused an order', { method, failure }));
  const demands = new Demands();
  const noteDemand = (source: DemandSource, demand: Demand): void => {
    manager.noteDemand(demands.note(source, demand, (manager.state.apps.get(ownerKey(demand.owner))?.own ?? null) !== null));
    perf.traffic(demand);
    if (source === 'shared') watches.note(demand);
  };
  const snapdLink = connectToPeer(`${settings.runFolder}/snapd.sock`, {}, { log });
  const restored = restoredOver(restoredLink);
  /** For which key secrets are to be wrapped; empty until restored has said. */
  let opens = '';
  const learnKey = async (): Promise<void> => {
    try {
      opens = await secretsOver(restoredLink).opens();
      publisher.changed(null);
    } catch (failure) {
      warn('restored could not say for which key secrets are to be wrapped', { failure });
      wakeIn(secondLookMs, () => restoredLink.up && opens === '' && void learnKey());
    }
  };
  const snapd = snapdOver(snapdLink);
  const probe = openProbe(clock);

  /** Told by the dispatcher when it connects. */
  let sealTo = '';
  let heartbeat: ReturnType<typeof startHeartbeat> | null = null;
  const certificates = new CertificateLink(bus, site, dispatcher, warn);

  const accesses = openAccesses({ bus, site, clock, epoch: newIdOf('epoch'), sessions: sessionsOver(restoredLink), manager: () => manager, perf: () => perf });
  const manager: ResourceManager = new ResourceManager(openState(settings.capacityBytes, () => frozenRoom(settings, pagers), new PackedTexts()), {
    clock,
    restored,
    snapd,
    dispatcher: new Ways(dispatcher, ownPath, accesses),
    probe,
    records,
    watch: perf,
    tell,
    paths,
    newInstanceId: (purpose) => newIdOf(idPrefixes[purpose]),
    wakeAt: (bootNs, callback) => wakeAt(clock, bootNs, callback),
    remake: (order) => deployer.remake(order),
    recall: (serving) => exchange.recall(serving),
    stateChanged: (app) => {
      publisher.changed(app);
      exchange.stateChanged();
    },
    warn,
  });
  const publisher = publishState({
    bus,
    site,
    clock,
    state: () => manager.state,
    facts: () => ({ ...settingsFacts(settings), opens, sealTo }),
    cron: () => cron,
    newEpoch: () => newIdOf('epoch'),
    wakeIn,
    onFault: (failure) => log.debug('the state waits to be published', { failure }),
  });
  const exchange: TemplateExchange = openTemplateExchange({
    site,
    bus,
    calls: exchangeOver(snapdLink),
    snapd,
    records,
    paths,
    clock,
    dataFolder: settings.dataFolder,
    limits: { bytesMax: settings.storeBytes, providerBytesMax: settings.storeProviderBytes },
    diskBytesMax: settings.templateBytes ?? null,
    app: (key) => appNow(manager, key),
    onStored: (stored) => manager.noteStored(stored),
    tell,
    warn,
  });
  const servingOf = (app: string) => manager.state.apps.get(app)?.serving?.order ?? null;
  const stoppedOf = (app: string) => manager.state.apps.get(app)?.capStop?.reason ?? '';
  const queues = new QueueLink(bus, site, { wallMs: clock.wallMs, wakeIn, serving: servingOf, stopped: stoppedOf, ask: (order) => dispatcher.ask(order, sleepMs), tell, warn });
  const { deployer, checker, watches, volumes } = composeDeploys({
    site,
    bus,
    clock,
    paths,
    records,
    snapd,
    images: imagesOver(snapdLink),
    ofVolumes: { calls: volumesOver(snapdLink), limits: { bytesMax: settings.volumeStoreBytes, providerBytesMax: settings.volumeStoreProviderBytes } },
    probe,
    exchange,
    manager,
    ownAddresses: () => ownAddresses,
    cron: () => cron,
    served: (app) => queues.serves(app),
    lastWords: (logPath) => perf.lastWords(logPath),
    build: openBuilds({ site, bus, clock, probe, settings, lastWords: (logPath) => perf.lastWords(logPath) }),
    checksFolder: checksFolder(settings.dataFolder),
    newFolderName: () => newIdOf('check'),
    tell,
    warn,
  });

  // ---- what we knew ----
  const remembered = await records.remember();
  const { meterIds } = remembered;
  const ownAddresses = openOwnAddresses({
    ranges: { ipv4: settings.ownIpv4, ipv6: settings.ownIpv6, ports: settings.ownPorts, sharedIpv4: settings.ipv4 },
    known: remembered.ownAddresses,
    records,
    tell: (owner, own) => manager.setOwn(owner, own),
  });
  recall(manager, remembered, log);
  const cron = new Cron(
    {
      site: siteKey(site),
      wallMs: clock.wallMs,
      wakeIn,
      ask: (order) => dispatcher.ask(order, sleepMs),
      saveDealt: (app, task, dueWallMs) => records.saveCron(app, task, dueWallMs),
      forgetDealt: (app, task) => records.forgetCron(app, task),
      stopped: stoppedOf,
      tell,
      changed: (app) => publisher.changed(app),
      warn,
    },
    remembered.cron,
  );
  for (const { order } of remembered.serving.values()) {
    cron.serves(order);
    watches.serves(order);
  }
  /** For the first look alone: of thousands of apps it is much. */
  let atStart: { readonly remembered: Remembered; readonly seeds: readonly UsageState[] } | null = { remembered, seeds: await usageOutbox.seeds() };
  /** Brings us into agreement with restored; the first time it also begins planning. Never twice at once. */
  let looking: Promise<void> = Promise.resolve();
  const look = (): Promise<void> => (looking = looking.then(lookOnce));
  const lookOnce = async (): Promise<void> => {
    try {
      if (atStart !== null) await settleAllKept(manager, atStart.remembered, warn);
      const list = await restored.list();
      if (atStart !== null) {
        const { remembered, seeds } = atStart;
        atStart = null;
        meter = startMeter({ clock, site, readCounters, texts: new PackedTexts(), outbox: waking(usageOutbox, () => shipper.wake()), seeds, onFault: (failure) => warn('usage could not be counted', { failure }) });
        meter.adopt(
          list.map((running) => ({ ...running, instance: meterIds.get(running.instance) ?? running.instance })),
          storedAtStart(remembered),
        );
        reconcile(manager, list, meterIds);
        manager.begin();
      } else reconcile(manager, list, meterIds);
      ownPath.begin();
    } catch (failure) {
      warn('restored could not say what runs', { failure });
    }
  };
  if (restoredLink.up) {
    void look();
    void learnKey();
  }
  const secondLook = setTimeout(() => void look().then(() => checker.sweep()), secondLookMs);

  const forgetShared = (): void => {
    certificates.stop();
    demands.forget('shared');
    manager.forgetDemand();
  };
  const handlers: Handlers = {
    demand: (demand: Demand) => noteDemand('shared', demand),
    suspect: (told: { instance: string; reason: string }) => void checkSuspect(manager, told.instance, told.reason),
    sealTo: (told: { publicKey: string }) => {
      sealTo = told.publicKey;
      publisher.changed(null);
    },
    ...operatorCalls({ site, clock, manager,
      dataFolder: settings.dataFolder,
      links: () => ({ restored: restoredLink.up, snapd: snapdLink.up, dispatcher: dispatcher.up, bus: bus.up }),
      heartbeatBootNs: () => heartbeat?.lastBootNs ?? null,
      eventsWaiting: () => messages.waiting,
      drainedSinceWallMs: remembered.drainedSinceWallMs,
      saveDrain: (sinceWallMs) => records.saveDrain(sinceWallMs),
      keepConnections: (keeps) => dispatcher.keepConnections(keeps),
      changed: () => publisher.changed(null),
    }),
  };
  mkdirSync(settings.runFolder, { recursive: true });
  const door = listenForPeers(`${settings.runFolder}/head.sock`, handlers, {
    log,
    onPeer: (peer) => {
      void dispatcher.greet(peer, manager.routes(), forgetShared).then((is) => {
        if (!is) return;
        log.info('the dispatcher is there');
        certificates.begin().catch((failure: unknown) => warn('certificates cannot be followed', { failure }));
      });
    },
  });
  await door.ready;

  // ---- the conduit's wishes: what we knew at once, what is new from the bus ----
  wishAgain(deployer, manager, remembered, warn);
  publisher.begin();
  void checker.sweep();
  const watch = await followDesired(bus, site, new Map(remembered.desired.map(({ app, message }) => [app, message])), {
    save: (app, message) => records.saveDesired(app, message),
    forget: (app) => records.forgetDesired(app),
    wish: (order, artefactBytes) => deployer.wish(order, artefactBytes),
    wishGone: (owner) => deployer.wishGone(owner),
    check: (place, wish) => checker.wish(place, wish),
    warn,
  });
  await queues.begin();
  exchange.begin();
  accesses.begin();
  volumes.begin();
  // What was wanted when the last head ended may be old: another edgepoint may have become the one that asks.
  void Promise.race([watch.ready, sleepMs(cronWaitMs)]).then(() => cron.begin());
  bus.onUp(() => {
    messages.wake();
    shipper.wake();
    publisher.wake();
  });
  heartbeat = startHeartbeat(bus, site, clock);
  const lease = holdSpendingLease(bus, clock, settings.spendingLeaseSeconds, manager);

  const health = serveHealth({
    listen: settings.health,
    metrics,
    check: () => ({
      ok: restoredLink.up && snapdLink.up,
      detail: { restored: restoredLink.up, snapd: snapdLink.up, dispatcher: dispatcher.up, bus: bus.up, apps: manager.state.apps.size, instances: manager.state.appOf.size, eventsWaiting: messages.waiting },
    }),
  });
  log.info('the head is up', { apps: manager.state.apps.size });

  return async () => {
    heartbeat?.stop();
    lease.stop();
    clearTimeout(secondLook);
    void exchange.stop();
    for (const part of [deployer, checker, cron, queues, manager, watch, accesses, certificates, door, perf]) part.stop();
    await Promise.race([Promise.all([meter?.stop(), publisher.stop().catch(() => undefined), messages.stop(1000)]), sleepMs(stopMs)]);
    await Promise.race([shipper.stop(), sleepMs(500)]);
    restoredLink.stop();
    snapdLink.stop();
    health.stop();
    await bus.close();
    client.close();
  };
}
