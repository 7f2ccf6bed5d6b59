import { z } from 'zod';
import { ownerKey } from '../kit/ids.ts';
import type { Owner } from '../kit/ids.ts';
import { connectToPeer } from '../host/calls.ts';
import type { Handlers } from '../host/calls.ts';
import { openClock } from '../host/clock.ts';
import { readSettings } from '../host/config.ts';
import { serveHealth } from '../host/health.ts';
import { openLog } from '../host/log.ts';
import type { Log } from '../host/log.ts';
import { openMetrics } from '../host/metrics.ts';
import { Failure, messageOf } from '../kit/errors.ts';
import { Challenges } from './dispatcher/challenges.ts';
import { CertificateFolder } from './dispatcher/tls/certificate-folder.ts';
import type { Certificate } from './dispatcher/tls/certificates.ts';
import { ReceivedCertificates } from './dispatcher/tls/received.ts';
import { DemandTeller } from './dispatcher/demand.ts';
import { openGauges } from './dispatcher/gauges.ts';
import { SharedAddress } from './dispatcher/shared-address.ts';
import type { SecureSettings } from './dispatcher/shared-address.ts';
import { readListen } from './dispatcher/listen.ts';
import { Switchboard } from './dispatcher/switchboard.ts';
import type { ConnectionCalls, Demand, DispatcherCalls, MessageOrder, Route, TaskCalls, TaskOrder } from './model/calls.ts';
import type { CertificateCalls, CertificateOrder, ChallengeOrder } from './model/certificates.ts';

const settings = {
  name: 'edgepoint dispatcher',
  about: 'Routes the requests of the shared address by Host, and holds them while an instance wakes.',
  prefix: 'EDGEPOINT_DISPATCHER',
  schema: z.object({
    listenFds: z.array(z.int().min(3)).default([]).describe('Inherited listening sockets, by descriptor number.'),
    listen: z.array(z.string()).default([]).describe('Addresses to listen on, as host:port; [::1]:80 for IPv6.'),
    secureListenFds: z.array(z.int().min(3)).default([]).describe('Inherited listening sockets that speak TLS, by descriptor number.'),
    secureListen: z.array(z.string()).default([]).describe('Addresses to listen on with TLS.'),
    certificatesFolder: z.string().default('').describe("Folder of NAME.pem files, each a private key with its chain, readable by the dispatcher's user alone; '' for no TLS."),
    handshakesPerSecond: z.int().min(1).default(50).describe('TLS handshakes that one network (an IPv4 address, an IPv6 /64) may begin each second; ten times as many in a burst.'),
    redirectToHttps: z.boolean().default(true).describe('Send plain HTTP of apps to https, where there is a certificate for the host and the app does not say otherwise; if not, only of apps that ask for it.'),
    httpsPort: z.int().min(1).max(65_535).default(443).describe('The port by which end users reach the TLS sockets.'),
    runFolder: z.string().describe("Folder of the edgepoint's sockets; head.sock is there."),
    health: z.string().default('').describe("Where /healthz and /metrics are served: unix:/path or host:port; '' for nowhere."),
  }),
};

/** The process of the local dispatcher; returns after SIGTERM or SIGINT, when exchanges under way have ended. */
export async function runDispatcher(argv: readonly string[]): Promise<void> {
  const read = await readSettings(settings, argv, process.env);
  const { listenFds, listen, runFolder, health } = read;
  const log = openLog('dispatcher');
  const clock = openClock();
  const nowMs = (): number => performance.now();
  const metrics = openMetrics('dispatcher');
  const gauges = openGauges(metrics);
  const epoch = `${clock.bootId}/${clock.bootNs()}`;

  const switchboard: Switchboard = new Switchboard(
    {
      demandChanged: (app, urgent) => teller.demandChanged(app, urgent),
      suspect: (instance, reason) => {
        log.warn(`instance ${instance} could not be reached: ${reason}`, { instance, reason });
        head.tell('suspect', { instance, reason });
      },
      outlier: (instance, forMs) => log.warn(`instance ${instance} failed several times in a row, and goes behind the others`, { instance, forMs: Math.round(forMs) }),
      held: gauges.held,
    },
    { nowMs, nowBootNs: clock.bootNs, nowWallMs: clock.wallMs, chance: Math.random },
  );
  const teller = new DemandTeller(
    (demand: Demand) => head.tell('demand', demand),
    (app) => app.demand(switchboard.waitingFor(app), epoch),
  );
  const challenges = new Challenges();
  const secure = openSecure(read, log, gauges.handshake);
  const received = secure === null ? null : openReceived(read.certificatesFolder, log);
  // Listens before the head can hear of it, so that whoever knows it is up can connect.
  const address = new SharedAddress({
    listenFds,
    listen: listen.map(readListen),
    secure,
    https: secure === null ? null : { port: read.httpsPort, always: read.redirectToHttps, has: (hostName) => isGood(secure.certificates.table.find(hostName)) },
    challenge: (hostName, target) => challenges.answerTo(hostName, target),
    switchboard,
    nowMs,
    answered: (app, status) => gauges.answered(app === null ? '' : ownerKey(app.owner), status),
    broken: (error) => log.error('a broken invariant: the connection it was found on is cut', { error }),
  });
  const head = connectToPeer(`${runFolder}/head.sock`, orders(switchboard, address, challenges, received), {
    log,
    onUp: () => {
      log.info('the head is there');
      if (received !== null) head.tell('sealTo', { publicKey: received.sealTo });
      for (const app of switchboard.allApps()) teller.demandChanged(app, false);
      teller.flush();
    },
    onDown: () => log.warn('the head is away; warm routes go on'),
  });
  const served = health === '' ? null : serveHealth({
    listen: health,
    metrics: { ...metrics, text: () => gauges.text({ ...address.connections, waiting: switchboard.waiting }, switchboard.allApps()) },
    check: () => ({ ok: true, detail: { head: head.up, routes: switchboard.ready, waiting: switchboard.waiting, ...address.connections } }),
  });
  log.info(`listening on ${address.addresses.join(', ')}`, { addresses: address.addresses });

  await new Promise<void>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  log.info('stopping');
  await address.stop();
  secure?.certificates.stop();
  teller.flush();
  head.stop();
  served?.stop();
}

/** Nobody is sent where a certificate has ended. */
const isGood = (certificate: Certificate | null): boolean => certificate !== null && certificate.notAfterMs > Date.now();

/** The sockets that speak TLS, and their certificates; null when there shall be none. */
function openSecure(read: z.output<typeof settings.schema>, log: Log, handshakeOver: (outcome: string) => void): SecureSettings | null {
  const { secureListenFds: listenFds, secureListen, certificatesFolder, handshakesPerSecond } = read;
  if (listenFds.length === 0 && secureListen.length === 0) return null;
  if (certificatesFolder === '') throw new Failure('bad-setting', 'sockets that speak TLS need certificates', { remedy: 'Name their folder by certificatesFolder.' });
  const certificates = new CertificateFolder(certificatesFolder, {
    changed: (count, names) => log.info(`${count} certificates for ${names} names`, { certificates: count, names }),
    refused: (file, reason) => log.warn(`the certificate ${file} is not used: ${reason}`, { file, reason }),
  });
  return { listenFds, listen: secureListen.map(readListen), certificates, handshakesPerSecond, handshakeOver };
}

/** Null where the operator keeps the folder to himself: then no certificate comes by itself. */
function openReceived(folder: string, log: Log): ReceivedCertificates | null {
  try {
    return new ReceivedCertificates(folder, {
      stored: (name) => log.info(`a certificate for ${name} came`, { name }),
      refused: (name, reason) => log.warn(`the certificate for ${name} that came is not used: ${reason}`, { name, reason }),
    });
  } catch (thrown) {
    log.warn(`certificates of an authority cannot be taken: ${messageOf(thrown)}`, { folder });
    return null;
  }
}

/** What the head may order, by the names of `DispatcherCalls`, `ConnectionCalls`, `TaskCalls` and `CertificateCalls`. */
function orders(switchboard: Switchboard, tasks: TaskCalls & ConnectionCalls, challenges: Challenges, received: ReceivedCertificates | null): Handlers {
  const calls: DispatcherCalls = switchboard;
  const proofs: CertificateCalls = {
    certificate: async (order) => received?.take(order),
    certificates: async ({ names }) => received?.keepOnly(names),
    challenge: async (order) => challenges.take(order),
  };
  return {
    routes: (routes: readonly Route[]) => calls.routes(routes),
    route: (route: Route) => calls.route(route),
    removeRoute: (owner: Owner) => calls.removeRoute(owner),
    drain: (order: Parameters<DispatcherCalls['drain']>[0]) => calls.drain(order),
    unpark: (order: Parameters<DispatcherCalls['unpark']>[0]) => calls.unpark(order),
    keepConnections: (order: { keeps: boolean }) => tasks.keepConnections(order),
    ask: (order: TaskOrder | MessageOrder) => tasks.ask(order),
    certificate: (order: CertificateOrder) => proofs.certificate(order),
    certificates: (order: { names: readonly string[] }) => proofs.certificates(order),
    challenge: (order: ChallengeOrder) => proofs.challenge(order),
  } as Handlers;
}
