import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from 'tar';
import type { Test } from 'tap';
import type { Bus } from '../../host/bus.ts';
import { checkOrderMessage } from '../../kit/wire/check.ts';
import { desiredAppMessage } from '../../kit/wire/desired.ts';
import type { DesiredApp } from '../../kit/wire/desired.ts';
import { PublishedStates } from '../../kit/published-states.ts';
import type { AppState, AppStateEntry, EdgepointState } from '../../kit/wire/edgepoint-state.ts';
import { eventMessage } from '../../kit/wire/event.ts';
import type { AppEvent } from '../../kit/wire/event.ts';
import { manifestSchema } from '../../kit/wire/manifest.ts';
import { artefactBucket, buckets, checkKey, checkObject, desiredKey } from '../../kit/wire/subjects.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import { siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { siteA, startNats, until } from '../host/nats.ts';
import type { NatsWorld } from '../host/nats.ts';
import { FakeDispatcher, FakeMachine } from './fakes.ts';

/** A real head process and a real nats-server; the rest of the edgepoint is `fakes.ts`. */
export interface Rig {
  readonly folder: string;
  readonly nats: NatsWorld;
  readonly conduit: Bus;
  readonly machine: FakeMachine;
  readonly dispatcher: FakeDispatcher;
  readonly events: AppEvent[];
  readonly head: () => ChildProcess;
  startHead(): Promise<void>;
  killHead(signal: NodeJS.Signals): Promise<void>;
  /** `sites`: who else hosts it. The artefact of an app and release is the same for every rig of a test. */
  deploy(app: string, manifest: Record<string, unknown>, release?: number, sites?: readonly Site[], deployId?: string, more?: Partial<DesiredApp>): Promise<void>;
  /** The same of an app's canary. */
  deployCanary(app: string, manifest: Record<string, unknown>, release: number, percent: number, deployId?: string): Promise<void>;
  remove(app: string, scope?: string): Promise<void>;
  /** Wishes a check in the one place there is, as the conduit does; `endCheck` takes it back. */
  check(checkId: string, app: string, manifest: Record<string, unknown>): Promise<void>;
  endCheck(): Promise<void>;
  /** What a reader of the bus has put together; null before the edgepoint has said anything. */
  state(): (EdgepointState & { readonly apps: readonly AppState[] }) | null;
  stages(app: string, release?: number): string[];
  /** Waits until the deploy of that release has ended; its last event. */
  ended(app: string, release?: number): Promise<AppEvent>;
}

const port = 8080;

interface Packed {
  readonly bytes: Buffer<ArrayBuffer>;
  readonly digest: string;
}
/** Artefacts by app and release. */
const packed = new Map<string, Packed>();

export interface RigOptions {
  readonly capacityBytes?: number;
  readonly frozenRoomBytes?: number;
  /** Default: one of its own, with this edgepoint alone. */
  readonly nats?: NatsWorld;
  readonly site?: Site;
  /** Further settings of the head. */
  readonly settings?: Record<string, unknown>;
  /** How long a start of the head may take; of a few apps it takes less than the usual. */
  readonly startMs?: number;
  /** Done before the head starts for the first time. */
  readonly before?: (about: { readonly conduit: Bus; readonly databaseUrl: string; readonly dataFolder: string }) => Promise<void>;
}

export async function startRig(t: Test, options: RigOptions = {}): Promise<Rig> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-head-'));
  const site = options.site ?? siteA;
  const nats = options.nats ?? (await startNats(t, [site]));
  const runFolder = join(folder, 'run');
  mkdirSync(runFolder);
  const machine = new FakeMachine(runFolder);
  await machine.start();
  const seedFile = join(folder, 'seed');
  writeFileSync(seedFile, nats.user(siteKey(site)).seed, { mode: 0o600 });
  const config = join(folder, 'head.json');
  const databaseUrl = `file:${folder}/head.db`;
  const dataFolder = join(folder, 'data');
  writeFileSync(
    config,
    JSON.stringify({
      ...site,
      ...options.settings,
      ipv4: '192.0.2.1',
      capacityBytes: options.capacityBytes ?? 64 * 512 * 1024 * 1024,
      /* Not what this machine has room for. */
      frozenRoomBytes: options.frozenRoomBytes ?? 0,
      natsUrl: nats.url,
      natsSeedFile: seedFile,
      databaseUrl,
      runFolder,
      dataFolder,
      health: `unix:${runFolder}/health.sock`,
    }),
  );
  const dispatcher = new FakeDispatcher(runFolder);
  let child: ChildProcess | null = null;
  let output = '';
  const startHead = async (): Promise<void> => {
    const started = spawn('node_modules/.bin/bun', ['edgepoint/main.ts', 'head', '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] });
    child = started;
    let up = false;
    started.stderr.on('data', (bytes: Buffer) => {
      output += bytes.toString();
      if (process.env['TEST_LOG']) process.stderr.write(bytes);
      if (bytes.toString().includes('the head is up')) up = true;
    });
    await until(`the head is up\n${output}`, () => {
      if (started.exitCode !== null) throw new Error(`the head ended:\n${output}`);
      return up && dispatcher.greeted;
    }, options.startMs);
  };
  const killHead = async (signal: NodeJS.Signals): Promise<void> => {
    const dying = child;
    if (dying === null || dying.exitCode !== null || dying.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => dying.once('exit', () => resolve()));
    dying.kill(signal);
    await gone;
  };
  t.teardown(async () => {
    await killHead('SIGKILL');
    dispatcher.stop();
    machine.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const conduit = await nats.bus('conduit');
  const events: AppEvent[] = [];
  const follow = await conduit.consume('EVENTS', { from: 'all' }, async (_subject, text) => {
    const parsed = parseMessage(eventMessage, text);
    if (parsed.ok) events.push(parsed.value);
  });
  t.teardown(() => follow.stop());
  const published = new PublishedStates<AppStateEntry>((entry) => entry);
  const states = await conduit.watchKv(buckets.state, '>', (key, text) => {
    const refused = published.take(key, text);
    if (refused !== '') throw new Error(refused);
  });
  t.teardown(() => states.stop());
  await options.before?.({ conduit, databaseUrl, dataFolder });
  await startHead();

  const pack = async (app: string, release: number): Promise<Packed> => {
    const before = packed.get(`${app} ${release}`);
    if (before !== undefined) return before;
    const source = mkdtempSync(join(folder, 'source-'));
    writeFileSync(join(source, 'server.js'), `// ${app} ${release}\n`);
    const file = `${source}.tar.gz`;
    await create({ gzip: true, file, cwd: source, portable: true }, ['.']);
    const bytes = readFileSync(file);
    const made = { bytes, digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}` };
    packed.set(`${app} ${release}`, made);
    return made;
  };
  const check = async (checkId: string, app: string, manifest: Record<string, unknown>): Promise<void> => {
    const { bytes, digest } = await pack(app, 9);
    const object = checkObject('prov', 1);
    await conduit.putObject(artefactBucket(site), object, bytes);
    const order = {
      checkId,
      provider: 'prov',
      scope: 'main',
      app,
      release: 9,
      artefactDigest: digest,
      artefactBytes: bytes.byteLength,
      object,
      manifest: manifestSchema.parse({ app, command: ['serve', '40'], port, ...manifest }),
      hosts: [`${app}.edge.test`],
      uidSlot: 60_001,
    };
    await conduit.putKv(buckets.desired, checkKey(site, 'prov', 1), encodeMessage(checkOrderMessage, order));
  };
  const deploy = async (app: string, manifest: Record<string, unknown>, release = 1, sites: readonly Site[] = [], deployId = `deploy-${app}-${release}`, more: Partial<DesiredApp> = {}): Promise<void> => {
    const { bytes, digest } = await pack(app, release);
    await conduit.putObject(artefactBucket(site), digest, bytes);
    const owner = { provider: 'prov', scope: more.canaryPercent === undefined ? 'main' : 'canary', app };
    const text = encodeMessage(desiredAppMessage, {
      ...owner,
      release,
      artefactDigest: digest,
      artefactBytes: bytes.byteLength,
      manifest: manifestSchema.parse({ app, command: ['serve', '40'], port, ...manifest }),
      hosts: [`${app}.edge.test`],
      uidSlot: 7,
      deployId,
      sites: sites.map(siteKey),
      ...more,
    });
    await conduit.putKv(buckets.desired, desiredKey(site, owner), text);
  };
  const ofDeploy = (app: string, release: number): AppEvent[] => events.filter((event) => siteKey(event) === siteKey(site) && event.app === app && event.release === release && event.kind === 'deploy');
  return {
    folder,
    nats,
    conduit,
    machine,
    dispatcher,
    events,
    startHead,
    killHead,
    deploy,
    deployCanary: (app, manifest, release, canaryPercent, deployId = `canary-${app}-${release}`) => deploy(app, manifest, release, [], deployId, { canaryPercent }),
    check,
    endCheck: async () => void (await conduit.deleteKv(buckets.desired, checkKey(site, 'prov', 1))),
    head: () => {
      if (child === null) throw new Error('there is no head');
      return child;
    },
    remove: async (app, scope = 'main') => void (await conduit.deleteKv(buckets.desired, desiredKey(site, { provider: 'prov', scope, app }))),
    state: () => {
      const self = published.edgepoint(siteKey(site));
      return self === null ? null : { ...self, apps: [...published.apps(siteKey(site))].map(([, app]) => app) };
    },
    stages: (app, release = 1) => [...new Set(ofDeploy(app, release).map((event) => event.stage))],
    ended: async (app, release = 1) => {
      const last = (): AppEvent | undefined => ofDeploy(app, release).find((event) => event.stage === 'ready' || event.stage === 'failed');
      await until(`the deploy of ${app} has ended\n${output.slice(-3000)}`, () => last() !== undefined, 30_000);
      return last() as AppEvent;
    },
  };
}

export { until };
