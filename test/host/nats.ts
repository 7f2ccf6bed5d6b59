import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { connectBus } from '../../host/bus.ts';
import type { Bus } from '../../host/bus.ts';
import { natsServerConfig, newBusUser, prepareStreams } from '../../host/credentials.ts';
import type { BusUser, Role } from '../../host/credentials.ts';
import type { Log } from '../../host/log.ts';
import { reloadNatsServer, writeNatsConfig } from '../../host/nats-server.ts';
import { tools } from '../../host/tools.ts';
import type { Site } from '../../kit/ids.ts';

/** A log that says nothing, or everything when TEST_LOG is set. */
export const quietLog: Log = makeLog();
function makeLog(): Log {
  const say = (text: string, fields?: Record<string, unknown>): void => {
    if (process.env['TEST_LOG']) console.error(text, fields ?? '');
  };
  return { debug: say, info: say, warn: say, error: say, with: () => quietLog };
}

/** Waits until the condition holds; fails loudly at the deadline. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, deadlineMs = 20_000): Promise<void> {
  const fromMs = performance.now();
  while (!(await holds())) {
    if (performance.now() - fromMs > deadlineMs) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export const siteA: Site = { zone: 'north', edgepoint: 'one' };
export const siteB: Site = { zone: 'south', edgepoint: 'two' };

/** A real nats-server of this test's own, with one user of every role and an edgepoint at each site. */
export interface NatsWorld {
  readonly url: string;
  user(name: string): { user: BusUser; seed: string };
  bus(name: string): Promise<Bus>;
  /** Rewrites the config without the user and has the running server read it. */
  revoke(name: string): Promise<void>;
  add(name: string, role: Role, site: Site | null): Promise<void>;
  kill(signal: NodeJS.Signals): Promise<void>;
  start(): Promise<void>;
  /** Removes what the stopped server stored. */
  forgetStore(): void;
  readonly pid: number;
}

export async function startNats(t: Test, sites: readonly Site[] = [siteA, siteB]): Promise<NatsWorld> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-nats-'));
  const users = new Map<string, { user: BusUser; seed: string }>();
  for (const role of ['conduit', 'metering', 'global-dispatcher', 'certificates', 'operator'] as const) users.set(role, newBusUser(role, null));
  for (const site of sites) users.set(`${site.zone}.${site.edgepoint}`, newBusUser('edgepoint', site));
  const configPath = join(folder, 'nats.conf');
  let port = -1;
  const configText = (): string =>
    natsServerConfig({ operator: 'acme', listen: `127.0.0.1:${port}`, storeFolder: join(folder, 'store'), portsFolder: folder, users: [...users.values()].map(({ user }) => user) });
  let server: ChildProcess | null = null;
  let ended: Promise<void> = Promise.resolve();
  let output = '';
  const start = async (): Promise<void> => {
    writeNatsConfig(configPath, configText());
    // It ends with a test that is killed, too.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', tools.natsServer, '-c', configPath, ...(process.env['TEST_NATS_TRACE'] ? ['-DV'] : [])], { stdio: ['ignore', 'ignore', 'pipe'] });
    server = child;
    child.stderr.on('data', (bytes: Buffer) => {
      output = `${output}${bytes.toString()}`.slice(-100_000);
      if (process.env['TEST_NATS_TRACE']) process.stderr.write(bytes);
    });
    ended = new Promise((resolve) => child.once('exit', () => resolve()));
    const portsFile = join(folder, `nats-server_${child.pid}.ports`);
    await until(`nats-server is ready\n${output}`, () => {
      if (child.exitCode !== null) throw new Error(`nats-server ended:\n${output}`);
      // The file is there before it is whole.
      return output.includes('Server is ready') && existsSync(portsFile) && readFileSync(portsFile, 'utf8').trimEnd().endsWith('}');
    });
    if (port === -1) port = Number(new URL((JSON.parse(readFileSync(portsFile, 'utf8')) as { nats: string[] }).nats[0] ?? '').port);
    for (const file of readdirSync(folder)) if (file.endsWith('.ports') && !portsFile.endsWith(file)) rmSync(join(folder, file));
  };
  const buses: Bus[] = [];
  t.teardown(async () => {
    await Promise.all(buses.map((bus) => bus.close()));
    server?.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  const find = (name: string): { user: BusUser; seed: string } => {
    const found = users.get(name);
    if (found === undefined) throw new Error(`no user ${name}`);
    return found;
  };
  const world: NatsWorld = {
    get url() {
      return `nats://127.0.0.1:${port}`;
    },
    get pid() {
      return server?.pid ?? 0;
    },
    user: find,
    bus: async (name) => {
      const bus = await connectBus({ url: world.url, seed: find(name).seed, name }, quietLog);
      buses.push(bus);
      return bus;
    },
    revoke: (name) => {
      const { user, seed } = find(name);
      users.set(name, { user: { ...user, revoked: true }, seed });
      return reloadNatsServer({ pid: world.pid, configPath, text: configText() });
    },
    add: (name, role, site) => {
      users.set(name, newBusUser(role, site));
      return reloadNatsServer({ pid: world.pid, configPath, text: configText() });
    },
    kill: async (signal) => {
      server?.kill(signal);
      await ended;
    },
    start,
    forgetStore: () => rmSync(join(folder, 'store'), { recursive: true, force: true }),
  };
  await start();
  const operator = await world.bus('operator');
  await until('the operator is in', () => operator.up);
  await prepareStreams(operator, sites);
  return world;
}
