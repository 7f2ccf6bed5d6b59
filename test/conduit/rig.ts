import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { Bus } from '../../host/bus.ts';
import { ownerKey, ownerOfKey, siteKey } from '../../kit/ids.ts';
import type { Owner, Site } from '../../kit/ids.ts';
import { checkOrderMessage } from '../../kit/wire/check.ts';
import type { CheckOrder } from '../../kit/wire/check.ts';
import { desiredAppMessage } from '../../kit/wire/desired.ts';
import type { DesiredApp } from '../../kit/wire/desired.ts';
import { appStateMessage, edgepointStateMessage, heartbeatMessage } from '../../kit/wire/edgepoint-state.ts';
import type { AppState } from '../../kit/wire/edgepoint-state.ts';
import { eventMessage, logMessage } from '../../kit/wire/event.ts';
import { appStateKey, artefactBucket, buckets, eventSubject, heartbeatSubject, isCheckTail, logSubject, stateKey } from '../../kit/wire/subjects.ts';
import type { PreparationReport } from '../../kit/wire/report.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import { siteA, siteB, startNats, until } from '../host/nats.ts';
import type { NatsWorld } from '../host/nats.ts';

export const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
export const bun = join(root, 'node_modules/.bin/bun');

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; it is killed when it takes too long. */
export async function run(program: string, args: readonly string[], options: { cwd?: string; env?: Record<string, string>; input?: string } = {}): Promise<Ran> {
  const child = spawn(program, args, { cwd: options.cwd ?? root, env: { PATH: process.env['PATH'] ?? '', ...options.env }, stdio: ['pipe', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (bytes: Buffer) => (stdout += bytes.toString()));
  child.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString()));
  // One that refuses at once may have ended before it is written to; how it ended is what counts.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
  const code = await new Promise<number>((resolve) => child.once('close', (status) => resolve(status ?? -1)));
  clearTimeout(timer);
  return { code, stdout, stderr };
}

/** A real conduit, as a process of its own, beside a real nats-server. */
export interface ConduitWorld {
  readonly nats: NatsWorld;
  readonly folder: string;
  readonly uploadFolder: string;
  readonly url: string;
  readonly log: () => string;
  /** Makes an account, or one more token of it. */
  token(provider: string): Promise<string>;
  /** The command, run from the sources by Bun in a home of its own. */
  cli(args: readonly string[], options?: { token?: string; cwd?: string; env?: Record<string, string>; input?: string }): Promise<Ran>;
  ask(token: string, path: string, init?: RequestInit): Promise<Response>;
  start(): Promise<void>;
  kill(signal: NodeJS.Signals): Promise<number | null>;
  readonly pid: number;
}

export async function startConduit(t: Test, settings: Record<string, unknown> = {}): Promise<ConduitWorld> {
  const nats = await startNats(t);
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-conduit-'));
  const uploadFolder = join(folder, 'uploads');
  const config = join(folder, 'conduit.json');
  const seedFile = join(folder, 'seed');
  writeFileSync(seedFile, nats.user('conduit').seed, { mode: 0o600 });
  let child: ChildProcess | null = null;
  let ended: Promise<number | null> = Promise.resolve(null);
  let output = '';
  let port = 0;
  const writeConfig = (): void =>
    writeFileSync(
      config,
      JSON.stringify({
        listen: `127.0.0.1:${port}`,
        databaseUrl: `file:${join(folder, 'conduit.db')}`,
        keyFile: join(folder, 'conduit.key'),
        natsUrl: nats.url,
        natsSeedFile: seedFile,
        zoneName: 'edge.test',
        sites: [siteA, siteB],
        uploadFolder,
        health: `unix:${join(folder, 'health.sock')}`,
        ...settings,
      }),
    );
  writeConfig();
  t.teardown(async () => {
    child?.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  const world: ConduitWorld = {
    nats,
    folder,
    uploadFolder,
    get url() {
      return `http://127.0.0.1:${port}`;
    },
    get pid() {
      return child?.pid ?? 0;
    },
    log: () => output,
    async token(provider) {
      const made = await run(bun, ['conduit/main.ts', 'new-provider', provider, '--config', config]);
      if (made.code !== 0) throw new Error(made.stderr);
      return made.stdout.trim();
    },
    cli: (args, options = {}) =>
      run(bun, [join(root, 'conduit/cli/main.ts'), ...args], {
        cwd: options.cwd ?? folder,
        ...(options.input === undefined ? {} : { input: options.input }),
        env: { HOME: folder, ...(options.token ? { CONDUIT_URL: world.url, CONDUIT_TOKEN: options.token } : {}), ...options.env },
      }),
    ask: (token, path, init = {}) => fetch(`${world.url}/v1${path}`, { ...init, headers: { authorization: `Bearer ${token}`, ...(init.headers as Record<string, string>) } }),
    async start() {
      writeConfig();
      const begun = spawn(bun, ['conduit/main.ts', '--config', config], { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] });
      child = begun;
      let own = '';
      begun.stderr.on('data', (bytes: Buffer) => {
        own += bytes.toString();
        output += bytes.toString();
        if (process.env['TEST_LOG']) process.stderr.write(bytes);
      });
      ended = new Promise((resolve) => begun.once('exit', (code) => resolve(code)));
      const address = (): string | undefined => /"listen":"http:\/\/127\.0\.0\.1:(\d+)\/"/.exec(own)?.[1];
      await until(`the conduit listens\n${own}`, () => {
        if (begun.exitCode !== null) throw new Error(`the conduit ended:\n${own}`);
        return address() !== undefined;
      });
      port = Number(address());
    },
    async kill(signal) {
      child?.kill(signal);
      return ended;
    },
  };
  await world.start();
  return world;
}

/** An edgepoint that hosts nothing but says what a real one would: it fetches, checks the digest and reports each stage. */
export interface FakeEdgepoint {
  readonly site: Site;
  readonly desired: ReadonlyMap<string, DesiredApp>;
  /** Checks wished of it, by place. */
  readonly checks: ReadonlyMap<string, CheckOrder>;
  /** Every check it was wished, in order. */
  readonly checksSeen: readonly CheckOrder[];
  /** Every text seen for a key, null for a deletion. */
  readonly seen: readonly { readonly key: string; readonly text: string | null }[];
  say(state: Partial<AppState> & { app: string }): Promise<void>;
  log(owner: Owner, text: string): Promise<void>;
}

export async function startEdgepoint(t: Test, nats: NatsWorld, site: Site, options: { fail?: string; silent?: boolean; beatMs?: number; opens?: string } = {}): Promise<FakeEdgepoint> {
  const bus = await nats.bus(siteKey(site));
  const checks = new Map<string, CheckOrder>();
  const checksSeen: CheckOrder[] = [];
  const beat = setInterval(() => bus.publish(heartbeatSubject(site), encodeMessage(heartbeatMessage, { ...site, bootId: 'boot', bootNs: 1 })), options.beatMs ?? 200);
  t.teardown(() => clearInterval(beat));
  const desired = new Map<string, DesiredApp>();
  const seen: { key: string; text: string | null }[] = [];
  const apps = new Map<string, AppState>();
  let sequence = 0;
  const epoch = 'e1';
  const publish = async (key: string, app: AppState): Promise<void> => void (await bus.putKv(buckets.state, appStateKey(site, key), encodeMessage(appStateMessage, { ...app, epoch })));
  await bus.putKv(buckets.state, stateKey(site), encodeMessage(edgepointStateMessage, {
    ...site, bootId: 'boot', ipv4: '10.0.0.1', ipv6: 'fd00::1', latitude: 0, longitude: 0, load: 0, capacityBytes: 1, accepting: true, epoch, complete: true, opens: options.opens ?? '',
  }));
  const watch = await bus.watchKv(buckets.desired, `${siteKey(site)}.>`, async (key, text) => {
    seen.push({ key, text });
    const tail = key.slice(siteKey(site).length + 1);
    if (isCheckTail(tail)) return check(tail, text);
    const app = nameOf(ownerOfKey(tail));
    if (text === null) {
      desired.delete(app);
      apps.delete(app);
      await bus.deleteKv(buckets.state, appStateKey(site, tail));
      return;
    }
    const parsed = parseMessage(desiredAppMessage, text);
    if (!parsed.ok) throw new Error(parsed.reason);
    desired.set(app, parsed.value);
    if (options.silent) return;
    await prepare(parsed.value);
  });
  t.teardown(() => watch.stop());
  const check = async (place: string, text: string | null): Promise<void> => {
    if (text === null) return void checks.delete(place);
    const parsed = parseMessage(checkOrderMessage, text);
    if (!parsed.ok) throw new Error(parsed.reason);
    const order = parsed.value;
    checks.set(place, order);
    checksSeen.push(order);
    const tell = (stage: string, said: string, more: { code?: string; report?: PreparationReport } = {}): Promise<void> =>
      bus.append(eventSubject(site, order), encodeMessage(eventMessage, {
        ...site, provider: order.provider, scope: order.scope, app: order.app, release: order.release, deployId: order.checkId,
        kind: 'check', stage, text: said, wallMs: 0, code: more.code ?? '', report: more.report ?? null,
      }), `${siteKey(site)}-${sequence++}`);
    const stream = await bus.getObject(artefactBucket(site), order.object);
    const bytes = stream === null ? Buffer.alloc(0) : Buffer.from(await new Response(stream).arrayBuffer());
    await tell('fetch', `fetched ${bytes.length} bytes`);
    if (options.silent) return;
    if (`sha256:${createHash('sha256').update(bytes).digest('hex')}` !== order.artefactDigest) return tell('failed', 'the digest differs');
    if (options.fail) return tell('failed', options.fail, { code: 'app-exited' });
    const can = order.manifest.env['HOLDS'] === undefined;
    const no = { can: false, code: 'uses-io-uring', why: 'the program holds an io_uring', remedy: 'Run it without.' };
    const yes = { can: true, code: '', why: '', remedy: '' };
    await tell('report', 'it is checked', {
      report: {
        canSnapshot: can ? yes : no, canClone: can ? yes : no, wakeBy: can ? 'template' : 'cold', wakeReason: 'so it is', staysAwake: '', imageBytes: can ? 12_000_000 : null,
        frozenMs: can ? 20.5 : null, coldBootMs: 812, restoreMs: can ? 23.4 : null, trials: 1, cloneMemoryBytes: can ? 30_000_000 : null, madeBy: '', warnings: [{ code: 'w', text: 'mind this' }],
      },
    });
  };
  const prepare = async (app: DesiredApp): Promise<void> => {
    const event = async (stage: string, text: string, more: { tookMs?: number; code?: string; figures?: Record<string, number> } = {}): Promise<void> =>
      bus.append(eventSubject(site, app), encodeMessage(eventMessage, {
        ...site, provider: app.provider, scope: app.scope, app: app.app, release: app.release, deployId: app.deployId,
        kind: 'deploy', stage, text, tookMs: more.tookMs ?? null, code: more.code ?? '', figures: more.figures ?? {}, wallMs: 0,
      }), `${siteKey(site)}-${sequence++}`);
    const bytes = await fetchArtefact(bus, site, app.artefactDigest);
    await event('fetch', `fetched ${bytes.length} bytes`, { tookMs: 3 });
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    const failure = digest === app.artefactDigest ? options.fail : 'the digest differs';
    const state: AppState = {
      provider: app.provider, scope: app.scope, app: app.app, release: app.release, status: failure ? 'failed' : 'ready', wakeBy: 'template', wakeReason: '',
      reason: failure ?? '', state: app.manifest.state, instances: failure ? {} : { asleep: 1 }, templateBytes: 12_000_000, templateAt: 'disk', coldBootMs: 812, restoreMs: 23.4,
    };
    if (!failure) await event('boot', 'the first instance listens', { tookMs: 812 });
    await event(failure ? 'failed' : 'ready', failure ?? 'asleep; a request wakes it', { tookMs: 900, figures: failure ? {} : { coldBootMs: 812, restoreMs: 23.4 }, code: failure ? 'app-exits' : '' });
    apps.set(nameOf(app), state);
    await publish(ownerKey(app), state);
  };
  return {
    site,
    desired,
    checks,
    checksSeen,
    seen,
    async say(state) {
      const name = nameOf({ provider: '', scope: 'main', ...state });
      const known = apps.get(name);
      if (!known) throw new Error(`no app ${name}`);
      const next = { ...known, ...state };
      apps.set(name, next);
      await publish(ownerKey(next), next);
    },
    log: (owner, text) =>
      bus.append(logSubject(site, owner), encodeMessage(logMessage, { ...owner, release: 1, instance: 'i-1', wallMs: 0, text }), `log-${siteKey(site)}-${sequence++}`),
  };
}

/** `shop`; `shop (canary)`. */
const nameOf = ({ scope, app }: Owner): string => (scope === 'main' ? app : `${app} (${scope})`);

async function fetchArtefact(bus: Bus, site: Site, digest: string): Promise<Buffer> {
  const stream = await bus.getObject(artefactBucket(site), digest);
  if (!stream) throw new Error(`no object ${digest} at ${siteKey(site)}`);
  return Buffer.from(await new Response(stream).arrayBuffer());
}

/** A folder with a small app in it. */
export function appFolder(t: Test, manifest: string, files: Record<string, string> = { 'server.js': '// listens\n' }): string {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-app-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries({ 'edgepoint.toml': manifest, ...files })) writeFileSync(join(folder, name), text);
  return folder;
}

export const plainManifest = (app: string, more = ''): string => `app = "${app}"\ncommand = ["node", "server.js"]\nport = 3000\n${more}`;
