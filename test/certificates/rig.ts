import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { ReceivedCertificates } from '../../edgepoint/dispatcher/tls/received.ts';
import { CertificateLink } from '../../edgepoint/head/certificates.ts';
import type { DispatcherLink } from '../../edgepoint/head/peers.ts';
import { siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { issuedCertificateMessage } from '../../kit/wire/certificates.ts';
import type { IssuedCertificate } from '../../kit/wire/certificates.ts';
import { edgepointStateMessage } from '../../kit/wire/edgepoint-state.ts';
import { stateKey } from '../../kit/wire/subjects.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import { bun, startDispatcher } from '../global-dispatcher/start.ts';
import { siteA, siteB, startNats, until } from '../host/nats.ts';
import type { NatsWorld } from '../host/nats.ts';
import { openPebble } from './pebble.ts';
import type { Pebble, PebbleOptions } from './pebble.ts';

const entry = join(import.meta.dirname, '../../certificates/main.ts');

/** A certifier between a real bus, a real global dispatcher and a real authority. */
export interface CertifierWorld {
  readonly nats: NatsWorld;
  readonly pebble: Pebble;
  readonly folder: string;
  readonly dns: ReturnType<typeof startDispatcher>;
  log(): string;
  start(): Promise<void>;
  /** Its exit code; null when it was killed. */
  end(signal: NodeJS.Signals): Promise<number | null>;
  exited(): Promise<number | null>;
  /** What the conduit reads. */
  issued(name: string): Promise<IssuedCertificate | null>;
  health(): Promise<Record<string, unknown>>;
}

export async function openCertifierWorld(t: Test, options: { pebble?: Partial<PebbleOptions>; settings?: Record<string, unknown> } = {}): Promise<CertifierWorld> {
  const nats = await startNats(t);
  const dns = startDispatcher(t, { natsUrl: nats.url }, nats.user('global-dispatcher').seed);
  const pebble = await openPebble(t, { resolver: `${dns.host}:53`, ...options.pebble });
  const folder = mkdtempSync(join(tmpdir(), 'certifier-'));
  const config = join(folder, 'config.json');
  const socketPath = join(folder, 'health.sock');
  writeFileSync(join(folder, 'seed'), nats.user('certificates').seed, { mode: 0o600 });
  writeFileSync(config, JSON.stringify({
    directoryUrl: pebble.directoryUrl, authorityCaFile: pebble.caFile, zoneName: 'edge.test', nameservers: [dns.host], sites: [siteA, siteB], retrySeconds: 1,
    databaseUrl: `file:${join(folder, 'certificates.db')}`, keyFile: join(folder, 'key'), natsUrl: nats.url, natsSeedFile: join(folder, 'seed'), health: `unix:${socketPath}`, ...options.settings,
  }));
  await until('the global dispatcher answers', async () => (await dns.healthy()) !== null);
  let child: ChildProcess | null = null;
  let ended: Promise<number | null> = Promise.resolve(null);
  let output = '';
  t.teardown(async () => {
    child?.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  const conduit = await nats.bus('conduit');
  const world: CertifierWorld = {
    nats,
    pebble,
    folder,
    dns,
    log: () => output,
    async start() {
      const begun = spawn(bun, [entry, '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] });
      child = begun;
      begun.stderr.on('data', (bytes: Buffer) => {
        output += bytes.toString();
        if (process.env['TEST_LOG']) process.stderr.write(bytes);
      });
      ended = new Promise((resolve) => begun.once('exit', (code) => resolve(code)));
    },
    end(signal) {
      child?.kill(signal);
      return ended;
    },
    exited: () => ended,
    async issued(name) {
      const text = await conduit.getKv('issued', name);
      const parsed = text === null ? null : parseMessage(issuedCertificateMessage, text);
      if (parsed !== null && !parsed.ok) throw new Error(parsed.reason);
      return parsed?.value ?? null;
    },
    health: () =>
      new Promise((resolve, reject) => {
        request({ socketPath, path: '/healthz' }, (response) => {
          let text = '';
          response.on('data', (bytes: Buffer) => (text += bytes.toString()));
          response.on('end', () => resolve(JSON.parse(text) as Record<string, unknown>));
        }).on('error', reject).end();
      }),
  };
  return world;
}

/** An edgepoint as far as certificates go: the head's link and the dispatcher's folder are the real ones. */
export interface Receiver {
  readonly folder: string;
  readonly refused: string[];
  readonly challenges: Parameters<DispatcherLink['challenge']>[0][];
  /** Key and chain; empty while there is none. */
  pem(name: string): string;
  /** The dispatcher connects anew. */
  reconnect(): Promise<void>;
}

export async function openReceiver(t: Test, nats: NatsWorld, site: Site): Promise<Receiver> {
  const bus = await nats.bus(siteKey(site));
  const folder = mkdtempSync(join(tmpdir(), 'received-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const refused: string[] = [];
  const challenges: Parameters<DispatcherLink['challenge']>[0][] = [];
  const received = new ReceivedCertificates(folder, { stored: () => undefined, refused: (name, reason) => refused.push(`${name}: ${reason}`) });
  const end = { certificate: received.take.bind(received), certificates: received.keepOnly.bind(received), challenge: (order: (typeof challenges)[number]) => void challenges.push(order) };
  const link = new CertificateLink(bus, site, end, (text) => refused.push(text));
  t.teardown(() => link.stop());
  await link.begin();
  await bus.putKv('state', stateKey(site), encodeMessage(edgepointStateMessage, {
    ...site, bootId: 'boot', ipv4: '127.0.0.1', ipv6: '', latitude: 0, longitude: 0, load: 0, capacityBytes: 1, sealTo: received.sealTo, accepting: true, epoch: 'e1', complete: true,
  }));
  return {
    folder,
    refused,
    challenges,
    pem: (name) => {
      try {
        return readFileSync(join(folder, `acme-${name}.pem`), 'latin1');
      } catch {
        return '';
      }
    },
    reconnect: () => link.begin(),
  };
}
