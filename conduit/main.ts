import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Hono } from 'hono';
import { connectBus } from '../host/bus.ts';
import { openClock } from '../host/clock.ts';
import { readSettings } from '../host/config.ts';
import { openDatabase } from '../host/database.ts';
import { giveBackWhenQuiet } from '../host/give-back.ts';
import { serveHealth } from '../host/health.ts';
import { openLog } from '../host/log.ts';
import type { Log } from '../host/log.ts';
import { openMetrics } from '../host/metrics.ts';
import { Failure, codeOf, messageOf } from '../kit/errors.ts';
import { nsPerMs } from '../kit/units.ts';
import { accessSockets } from './api/access.ts';
import { AccessRelay } from './access/relay.ts';
import type { AccessSocketData } from './access/relay.ts';
import { describeCaps } from './api/caps.ts';
import { openFollow } from './api/follow.ts';
import { answerJson, apiRoutes } from './api/routes.ts';
import type { AppAtSite } from './api/answers.ts';
import type { ApiPorts, Environment } from './api/ports.ts';
import { openSignIn } from './api/sign-in.ts';
import { conduitSettings } from './config.ts';
import type { ConduitSettings } from './config.ts';
import { openChecks } from './checks.ts';
import { openInstallationKey, openVault } from './configuration/vault.ts';
import { openDeploys } from './deploy.ts';
import { describeApp } from './describe-app.ts';
import { reachableOf, watchEdgepoints, whenReachableChanges } from './edgepoints.ts';
import { startPublisher } from './publisher.ts';
import { keptReleases } from './rollback.ts';
import { openShown } from './shown-app.ts';
import { openAccountStore } from './store/accounts.ts';
import type { Speaker } from './store/accounts.ts';
import { openAppStore } from './store/apps.ts';
import type { StoredApp } from './store/apps.ts';
import { openAuditStore } from './store/audit.ts';
import { openCapStore } from './store/caps.ts';
import { openCheckStore } from './store/checks.ts';
import { openDomainStore } from './store/domains.ts';
import { openDomains } from './domains/domains.ts';
import { watchIssued } from './domains/issued.ts';
import { openLayers } from './layers.ts';
import { openQueues } from './queues/queues.ts';
import { openLookUp } from './domains/look-up.ts';
import { openLayerNeeds } from './store/layers.ts';
import { migrations } from './store/migrations.ts';
import { openProviderKeys } from './store/provider-keys.ts';
import { openAlerts } from './spending/alerts.ts';
import { post } from './spending/post.ts';
import { sealedWith } from './spending/sealed.ts';
import { openSpending } from './spending/spending.ts';
import type { Spending } from './spending/spending.ts';
import { openUploads, overshootBytes } from './uploads.ts';
import { VolumeDesk } from './volumes/desk.ts';
import { askUsage } from './usage.ts';
import { webRoutes } from './web/routes.tsx';

const deployWatchMs = 10 * 60 * 1000;
const followersMax = 500;

/** Everything that stands behind the door, opened in order. */
async function openParts(settings: ConduitSettings, log: Log) {
  const clock = openClock();
  const metrics = openMetrics('conduit');
  const database = await openConduitDatabase(settings, log);
  const apps = openAppStore(database);
  const accounts = openAccountStore(database);
  const providerKeys = openProviderKeys(database);
  const vault = openVault(await openInstallationKey(settings.keyFile, providerKeys, randomBytes), providerKeys, randomBytes);
  const uploads = await openUploads(settings.uploadFolder, settings.uploadBytesMax);
  await uploads.sweep(await apps.neededArtefacts(keptReleases));
  const layerNeeds = openLayerNeeds(database);
  const { uploadFolder, layerBytesPerProvider: bytesPerProvider } = settings;
  const needed = () => layerNeeds.ofKept(keptReleases);
  const layers = await openLayers({ uploads, folder: join(uploadFolder, 'layers'), bytesPerProvider, uploadsMax: settings.uploadsMax, randomBytes, needed, wallMs: clock.wallMs });
  await layers.sweep();

  const seed = settings.natsSeedFile === '' ? '' : (await readFile(settings.natsSeedFile, 'utf8')).trim();
  const bus = await connectBus({ url: settings.natsUrl, seed, name: 'conduit' }, log);
  const edgepoints = await watchEdgepoints(bus, clock, log);
  const { zoneName, sites, uploadsMax } = settings;
  const changes = openChanges();
  edgepoints.onChange(changes.tell);

  const published = metrics.counter('conduit_published_total', 'Apps whose desired state was told to the bus');
  const caps = openCapStore(database);
  const webhookSecrets = sealedWith(vault);
  let judging: Spending | null = null;
  const onPublished = (app: StoredApp): void => {
    published.inc();
    changes.tell();
    // A new app of one who has spent all is not served either.
    void judging?.judgeIfCapped(app.owner.provider);
  };
  const reachable = (): ReadonlySet<string> => reachableOf(edgepoints.seen());
  const domainStore = openDomainStore(database);
  const publisher = startPublisher({ bus, apps, domains: domainStore, caps, uploads, layers, layerNeeds, vault, edgepoints, sites, zoneName, reachable, log, onPublished });
  whenReachableChanges(edgepoints, () => {
    apps
      .markCronUnpublished()
      .then(() => publisher.wake())
      .catch((thrown: unknown) => log.error('the outbox could not be written', { reason: messageOf(thrown) }));
  });
  const onChange = (): void => {
    publisher.wake();
    changes.tell();
  };
  const alerts = openAlerts({ caps, post, open: webhookSecrets.open, anywhere: settings.webhooksAnywhere, wallMs: clock.wallMs, log, onChange: changes.tell });
  alerts.wake();
  const onSpending = (): void => {
    onChange();
    alerts.wake();
  };
  const spending = await openSpending({ bus, apps, caps, randomBytes, wallMs: clock.wallMs, log, onChange: onSpending });
  judging = spending;
  const issued = await watchIssued(bus, log);
  const deploys = openDeploys({ apps, uploads, layers, vault, edgepoints, issued, sites, zoneName, clock, randomBytes, uploadsMax, onChange });
  await deploys.placeAll();
  const queues = await openQueues({ bus, apps, sites, reachable, randomBytes, wallMs: clock.wallMs, log });
  const lookUp = openLookUp(settings.resolver, zoneName);
  const domains = openDomains({ apps, domains: domainStore, edgepoints, issued, lookUp, zoneName, domainsPerProvider: settings.domainsPerProvider, wallMs: clock.wallMs, onChange });
  const checks = openChecks({ bus, apps, store: openCheckStore(database), uploads, vault, edgepoints, sites, zoneName, randomBytes, log, checksMax: settings.checksMax });
  await checks.recover();
  // What was wrapped for its former key it cannot open.
  edgepoints.onNewKey(publisher.verifyAll);
  bus.onUp(publisher.verifyAll);
  const audit = openAuditStore(database);
  await audit.endLost();
  const accesses = new AccessRelay({ bus, log, randomBytes, isGood: accounts.isGood, nowMs: () => clock.bootNs() / nsPerMs, audit });
  const volumes = new VolumeDesk({ bus, randomBytes, nowMs: () => clock.bootNs() / nsPerMs });
  return { settings, log, clock, metrics, database, apps, accounts, vault, bus, edgepoints, changes, publisher, deploys, domains, issued, checks, layers, accesses, audit, queues, volumes, spending, alerts, capPorts: { apps, caps, spending, seal: webhookSecrets.seal, randomBytes, wallMs: clock.wallMs, webhooksAnywhere: settings.webhooksAnywhere, onChange: onSpending } };
}
type Parts = Awaited<ReturnType<typeof openParts>>;

/** Those who want to know that something a page shows has changed. */
function openChanges() {
  const callbacks = new Set<() => void>();
  return {
    tell(): void {
      for (const callback of callbacks) callback();
    },
    on(callback: () => void): () => void {
      callbacks.add(callback);
      return () => callbacks.delete(callback);
    },
  };
}

/** The door itself: the API below /v1, the page elsewhere. */
function openDoor(parts: Parts): Hono<Environment> {
  const { settings, log, clock, metrics, apps, accounts, vault, bus, edgepoints, changes, deploys, domains, issued, checks, layers, queues, volumes, audit } = parts;
  const { zoneName, uploadBytesMax } = settings;
  const describe = async (app: StoredApp) => {
    const [release, placements, canary] = await Promise.all([apps.release(app.id, app.release), apps.placements(app.id), apps.canaries.find(app.id)]);
    if (!release) throw new Error(`broken invariant: release ${app.release} of ${app.owner.app} has no row`);
    return describeApp({ app, release, hosting: placements.hosting, seen: edgepoints.seen(), zoneName, canary, certificate: issued.of(zoneName), nowWallMs: clock.wallMs() });
  };
  const sitesOnce: ApiPorts['sitesOnce'] = async (app, enough) => {
    const sites = async (): Promise<readonly AppAtSite[]> => (await describe(app)).sites;
    const once = await edgepoints.chooseOnceHeard(async () => {
      const now = await sites();
      return enough(now) ? now : null;
    });
    return once ?? sites();
  };
  const signIn = openSignIn(accounts, () => clock.bootNs() / nsPerMs);
  const follow = openFollow({ bus, apps, edgepoints, log, deployMs: deployWatchMs, checkMs: settings.checkSeconds * 1000, followersMax });
  const usage = (provider: string, app: string) => askUsage(bus, provider, app);
  const appsOf = async (provider: string) => Promise.all((await apps.list(provider)).map(describe));
  const answered = metrics.counter('conduit_answers_total', 'Answered requests', ['status']);

  const door = new Hono<Environment>();
  door.use('*', async (c, next) => {
    await next();
    answered.inc({ status: String(c.res.status) });
  });
  door.route('/v1', apiRoutes({ ...parts.capPorts, sitesOnce, bus, deploys, domains, checks, layers, queues, volumes, vault, signIn, describe, zoneName, log, follow, usage, uploadBytesMax, audit }));
  const openApp = (speaker: Speaker, name: string, onChange: () => void) => openShown({ bus, apps, describe, usage, caps: (provider) => describeCaps(parts.capPorts, provider), wallMs: clock.wallMs }, { speaker, name, onChange });
  door.route('/', webRoutes({ accounts, signIn, randomBytes, appsOf, openApp, onChange: changes.on, wallMs: clock.wallMs }));
  door.onError((thrown, c) => answerJson({ log }, thrown, c));
  door.notFound((c) => answerJson({ log }, new Failure('no-such-way', 'there is nothing at this address'), c));
  return door;
}

/** Serves until SIGTERM or SIGINT. */
async function serve(settings: ConduitSettings, log: Log): Promise<void> {
  const parts = await openParts(settings, log);
  const door = openDoor(parts);
  const { host, port } = splitListen(settings.listen);
  const server = Bun.serve<AccessSocketData>({
    hostname: host,
    port,
    // The upload itself counts its bytes and says which limit; this only stops what is far beyond.
    maxRequestBodySize: settings.uploadBytesMax + overshootBytes,
    idleTimeout: 30,
    fetch: (request, self) => door.fetch(request, { address: self.requestIP(request)?.address ?? '', upgrade: (data: AccessSocketData) => self.upgrade(request, { data }) }),
    websocket: accessSockets(parts.accesses),
  });
  const check = () => ({ ok: true, detail: { bus: parts.bus.up, edgepoints: parts.edgepoints.seen().size } });
  giveBackWhenQuiet();
  const health = settings.health === '' ? null : serveHealth({ listen: settings.health, metrics: parts.metrics, check });
  log.info('ready', { listen: `http://${server.hostname}:${server.port}/`, sites: settings.sites.length });

  const stop = async (signal: string): Promise<void> => {
    log.info('stopping', { signal });
    parts.accesses.stop();
    parts.volumes.stop();
    await server.stop(true);
    await parts.publisher.stop();
    parts.checks.stop();
    parts.spending.stop();
    await parts.alerts.stop();
    parts.edgepoints.stop();
    parts.issued.stop();
    parts.queues.stop();
    await parts.bus.close();
    parts.database.close();
    health?.stop();
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      stop(signal).catch((thrown: unknown) => {
        log.error('stopping failed', { reason: messageOf(thrown) });
        process.exit(1);
      });
    });
  }
}

/** `new-provider NAME`: makes the account, or one more token for it, and prints the token this once. */
async function newProvider(settings: ConduitSettings, provider: string, log: Log): Promise<void> {
  const database = await openConduitDatabase(settings, log);
  const token = await openAccountStore(database).addToken(provider, randomBytes, openClock().wallMs());
  database.close();
  process.stdout.write(`${token}\n`);
  if (process.stderr.isTTY) process.stderr.write('This token is shown only now: it is stored hashed.\n');
}

function openConduitDatabase(settings: ConduitSettings, log: Log) {
  return openDatabase({ url: settings.databaseUrl, ...(settings.databaseToken === '' ? {} : { authToken: settings.databaseToken }), migrations }, log);
}

function splitListen(listen: string): { host: string; port: number } {
  const colon = listen.lastIndexOf(':');
  return { host: listen.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), port: Number(listen.slice(colon + 1)) };
}

async function main(argv: readonly string[]): Promise<void> {
  const log = openLog('conduit');
  const [command, name = ''] = argv;
  const isNewProvider = command === 'new-provider';
  try {
    const settings = await readSettings(conduitSettings, isNewProvider ? argv.slice(2) : argv, process.env);
    await (isNewProvider ? newProvider(settings, name, log) : serve(settings, log));
  } catch (thrown) {
    log.error(messageOf(thrown), { code: codeOf(thrown), ...(thrown instanceof Failure && thrown.remedy !== '' ? { remedy: thrown.remedy } : {}) });
    process.exit(1);
  }
}

await main(process.argv.slice(2));
