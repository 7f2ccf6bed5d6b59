import { readFile } from 'node:fs/promises';
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
import { openAuthority } from './authority.ts';
import type { Authority } from './authority.ts';
import { defaultRules } from './plan.ts';
import { Certifier } from './run.ts';
import { certificatesSettings } from './settings.ts';
import type { CertificatesSettings } from './settings.ts';
import { openStage } from './stage.ts';
import { migrations, openCertificateStore } from './store.ts';
import type { CertificateStore } from './store.ts';
import { openVault } from './vault.ts';
import { followWishes } from './wishes.ts';

const sleepMs = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function authorityOf(settings: CertificatesSettings, store: CertificateStore, nowMs: () => number): Promise<Authority> {
  const { directoryUrl, authorityCaFile, contact, bindingKeyId, bindingKeyFile } = settings;
  return openAuthority({
    directoryUrl,
    ca: authorityCaFile === '' ? '' : await readFile(authorityCaFile, 'utf8'),
    contact,
    binding: bindingKeyId === '' ? null : { kid: bindingKeyId, hmacKey: (await readFile(bindingKeyFile, 'utf8')).trim() },
    accountKey: () => store.accountKey(directoryUrl),
    saveAccountKey: (key) => store.saveAccountKey(directoryUrl, key),
    nowMs,
  });
}

/** Serves until SIGTERM or SIGINT. */
async function serve(settings: CertificatesSettings, log: Log): Promise<void> {
  const clock = openClock();
  const nowMs = (): number => clock.wallMs();
  const metrics = openMetrics('certificates');
  const orders = metrics.counter('certificates_orders_total', 'Certificates asked for, by what became of it', ['outcome']);
  const ends = metrics.gauge('certificates_end_seconds', 'When a certificate ends, in seconds since 1970', ['name']);
  const warned = metrics.gauge('certificates_warnings', 'Certificates that are missing, end soon or have ended');
  const database = await openDatabase({ url: settings.databaseUrl, migrations }, log);
  const store = openCertificateStore(database, openVault(settings.keyFile));
  const seed = (await readFile(settings.natsSeedFile, 'utf8')).trim();
  const bus = await connectBus({ url: settings.natsUrl, seed, name: 'certificates' }, log);
  const { zoneName, sites, domainsMax, nameservers } = settings;
  // It is woken by what it follows, and told of by what it is.
  let certifier: Certifier | null = null;
  const followed = await followWishes(bus, { zoneName, sites, domainsMax, log, onChange: () => certifier?.wake() });
  const stage = openStage({ bus, nameservers, edgepoints: () => followed.addresses(), sleepMs });
  const running = new Certifier({
    bus,
    store,
    authority: await authorityOf(settings, store, nowMs),
    stage,
    rules: { ...defaultRules, retryMs: settings.retrySeconds * 1000 },
    sites,
    wishes: () => followed.wishes(),
    allTold: () => followed.allTold,
    sealTo: (site) => followed.sealTo(site),
    nowMs,
    log,
    ordered: (outcome) => orders.inc({ outcome }),
  });
  certifier = running;
  bus.onUp(() => running.wake(true));
  running.wake();
  giveBackWhenQuiet();
  const check = () => {
    for (const { name, notAfterMs } of running.held.values()) ends.set({ name }, notAfterMs / 1000);
    warned.set({}, running.warnings.length);
    return { ok: true, detail: { bus: bus.up, certificates: running.held.size, warnings: running.warnings } };
  };
  const health = settings.health === '' ? null : serveHealth({ listen: settings.health, metrics: { ...metrics, text: () => (check(), metrics.text()) }, check });
  log.info('ready', { authority: settings.directoryUrl, zone: zoneName, sites: sites.length });
  const stop = async (): Promise<void> => {
    running.stop();
    followed.stop();
    health?.stop();
    await bus.close();
    database.close();
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void stop());
}

const log = openLog('certificates');
try {
  await serve(await readSettings(certificatesSettings, process.argv.slice(2), process.env), log);
} catch (thrown) {
  log.error(messageOf(thrown), { code: codeOf(thrown), ...(thrown instanceof Failure && thrown.remedy !== '' ? { remedy: thrown.remedy } : {}) });
  process.exit(1);
}
