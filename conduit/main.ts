import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Hono } from 'hono';
import { connectBus } from '../host/bus.ts';
import { openClock } from '../host/clock.ts';
import { readSettings } from '../host/config.ts';
import { openDatabase } from '../host/database.ts';
import { serveHealth } from '../host/health.ts';
import { openLog } from '../host/log.ts';
import type { Log } from '../host/log.ts';
import { openMetrics } from '../host/metrics.ts';
import { Failure, codeOf, messageOf } from '../kit/errors.ts';
import { openFollow } from './api/follow.ts';
import { answerJson, apiRoutes } from './api/routes.ts';
import type { Environment } from './api/routes.ts';
import { openSignIn } from './api/sign-in.ts';
import { conduitSettings } from './config.ts';
import type { ConduitSettings } from './config.ts';
import { openDeploys } from './deploy.ts';
import { describeApp } from './describe-app.ts';
import { watchEdgepoints } from './edgepoints.ts';
import { startPublisher } from './publisher.ts';
import { openAccountStore } from './store/accounts.ts';
import { openAppStore } from './store/apps.ts';
import type { StoredApp } from './store/apps.ts';
import { migrations } from './store/migrations.ts';
import { openUploads, overshootBytes } from './uploads.ts';
import { askUsage } from './usage.ts';
import { webRoutes } from './web/routes.tsx';

const deployWatchMs = 10 * 60 * 1000;
const followersMax = 500;

/** The composition of the conduit: what it is made of and in which order it starts and ends. */
async function serve(settings: ConduitSettings, log: Log): Promise<void> {
  const clock = openClock();
  const metrics = openMetrics('conduit');
  const database = await openConduitDatabase(settings, log);
  const apps = openAppStore(database);
  const accounts = openAccountStore(database);
  const uploads = await openUploads(settings.uploadFolder, settings.uploadBytesMax);
  await uploads.sweep(await apps.neededArtefacts());

  const seed = settings.natsSeedFile === '' ? '' : (await readFile(settings.natsSeedFile, 'utf8')).trim();
  const bus = await connectBus({ url: settings.natsUrl, seed, name: 'conduit' }, log);
  const edgepoints = await watchEdgepoints(bus, clock, log);
  const { zoneName, sites } = settings;

  const changes = new Set<() => void>();
  const changed = (): void => {
    for (const callback of changes) callback();
  };
  edgepoints.onChange(changed);
  const published = metrics.counter('conduit_published_total', 'Apps whose desired state was told to the bus');
  const publisher = startPublisher({
    bus, apps, uploads, sites, zoneName, log,
    onPublished: () => {
      published.inc();
      changed();
    },
  });
  const deploys = openDeploys({
    apps, uploads, edgepoints, sites, zoneName, clock, randomBytes,
    uploadsMax: settings.uploadsMax,
    onChange: () => {
      publisher.wake();
      changed();
    },
  });
  await deploys.placeAll();
  bus.onUp(() => {
    publisher.verifyAll().catch((thrown: unknown) => log.error('the outbox could not be written', { reason: messageOf(thrown) }));
  });
  await publisher.verifyAll();

  const describe = async (app: StoredApp) => {
    const [release, placements] = await Promise.all([apps.release(app.id, app.release), apps.placements(app.id)]);
    if (!release) throw new Error(`broken invariant: release ${app.release} of ${app.owner.app} has no row`);
    return describeApp({ app, release, hosting: placements.hosting, seen: edgepoints.seen(), zoneName });
  };
  const signIn = openSignIn(accounts, () => clock.bootNs() / 1e6);
  const answered = metrics.counter('conduit_answers_total', 'Answered requests', ['status']);
  const root = new Hono<Environment>();
  root.use('*', async (c, next) => {
    await next();
    answered.inc({ status: String(c.res.status) });
  });
  root.route(
    '/v1',
    apiRoutes({
      apps, deploys, signIn, describe, zoneName, log,
      follow: openFollow({ bus, apps, edgepoints, log, deployMs: deployWatchMs, followersMax }),
      usage: (provider, app) => askUsage(bus, provider, app),
      uploadBytesMax: settings.uploadBytesMax,
    }),
  );
  root.route(
    '/',
    webRoutes({
      accounts, signIn, randomBytes,
      appsOf: async (provider) => Promise.all((await apps.list(provider)).map(describe)),
      onChange(callback) {
        changes.add(callback);
        return () => changes.delete(callback);
      },
      wallMs: clock.wallMs,
    }),
  );
  root.onError((thrown, c) => answerJson({ log }, thrown, c));
  root.notFound((c) => answerJson({ log }, new Failure('no-such-way', 'there is nothing at this address'), c));

  const { host, port } = splitListen(settings.listen);
  const server = Bun.serve({
    hostname: host,
    port,
    // The upload itself counts its bytes and says which limit; this only stops what is far beyond.
    maxRequestBodySize: settings.uploadBytesMax + overshootBytes,
    idleTimeout: 30,
    fetch: (request, self) => root.fetch(request, { address: self.requestIP(request)?.address ?? '' }),
  });
  const health =
    settings.health === ''
      ? null
      : serveHealth({ listen: settings.health, metrics, check: () => ({ ok: true, detail: { bus: bus.up, edgepoints: edgepoints.seen().size } }) });
  log.info('ready', { listen: `http://${server.hostname}:${server.port}/`, sites: sites.length });

  const stop = async (signal: string): Promise<void> => {
    log.info('stopping', { signal });
    await server.stop(true);
    await publisher.stop();
    edgepoints.stop();
    await bus.close();
    database.close();
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
