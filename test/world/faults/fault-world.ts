import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import { bunPath, holdWorld } from '../held-world.ts';
import type { HeldWorld } from '../held-world.ts';
import { tracesOf } from '../traces.ts';
import type { AppAnswer } from '../../../conduit/api/answers.ts';
import type { UsageReport } from '../../../kit/wire/usage.ts';

/** Waits until the condition holds; the machine is shared, so deadlines are generous and what is asserted is not. */
export async function until(what: string | (() => string), holds: () => boolean | Promise<boolean>, deadlineMs = 30_000, stepMs = 25): Promise<void> {
  const fromMs = performance.now();
  while (!(await holds())) {
    if (performance.now() - fromMs > deadlineMs) throw new Error(`not within ${deadlineMs} ms: ${typeof what === 'string' ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, stepMs));
  }
}

export interface Ran {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The real command line, as one provider uses it. */
export interface Provider {
  readonly token: string;
  conduit(argv: readonly string[]): Promise<Ran>;
  /** Throws what it printed when it fails. */
  json<T>(argv: readonly string[]): Promise<T>;
  /** Deploys and waits until every edgepoint is ready. */
  deploy(folder: string): Promise<void>;
  status(app: string): Promise<AppAnswer>;
  usage(app: string): Promise<UsageReport['apps'][number]['totals'] | null>;
}

export interface FaultWorld {
  readonly held: HeldWorld;
  readonly id: string;
  readonly folder: string;
  readonly edgepoints: HeldWorld['description']['edgepoints'];
  newProvider(name: string): Promise<Provider>;
  /** The command line with any token. */
  withToken(token: string): Provider;
  /** What a daemon wrote so far. */
  logOf(daemon: string): string;
  /** Process ids by daemon, now. */
  daemons(): Promise<Readonly<Record<string, number>>>;
  kill(name: string, signal: NodeJS.Signals): Promise<void>;
  /** Waits until every daemon runs and says that it is well. */
  allHealthy(deadlineMs?: number): Promise<void>;
  /** Ends the world, and fails the test when anything was left by something that should have removed it itself. */
  stop(t: Test): Promise<void>;
}

const repository = join(import.meta.dirname, '../../..');

/** One world for a test file. It is taken down whatever happens. */
export async function openFaultWorld(t: Test, args: readonly string[] = []): Promise<FaultWorld> {
  const held = await holdWorld(args);
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-faults-'));
  t.teardown(async () => {
    await held.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const { description } = held;
  const daemons = async (): Promise<Readonly<Record<string, number>>> => (await held.call<typeof description>('describe')).daemons;
  const names = Object.keys(description.daemons);
  return {
    held,
    id: description.id,
    folder,
    edgepoints: description.edgepoints,
    daemons,
    newProvider: async (name) => openProvider(description.conduitUrl, await held.call<string>('newProvider', { name })),
    withToken: (token) => openProvider(description.conduitUrl, token),
    logOf: (daemon) => readFileSync(join(description.logFolder, `${daemon}.log`), 'utf8'),
    kill: async (name, signal) => {
      if (!(await held.call<boolean>('kill', { name, signal }))) throw new Error(`no ${name} runs`);
    },
    allHealthy: async (deadlineMs) => {
      let why = '';
      await until(() => `all daemons are healthy: ${why}`, async () => {
        const running = await daemons();
        const missing = names.find((name) => running[name] === undefined);
        why = missing === undefined ? ((await Promise.all(names.map((name) => healthProblem(description, name)))).find((problem) => problem !== '') ?? '') : `${missing} does not run`;
        return why === '';
      }, deadlineMs);
    },
    stop: async (test) => {
      test.equal(await held.stop(), 0, 'the world ends with exit code 0');
      test.same(held.said().split('\n').filter((line) => line.includes('was left')), [], 'nothing was left that its maker should have removed');
      test.same(tracesOf(description.id), [], 'nothing carries the id of the world any more');
    },
  };
}

async function healthProblem(description: HeldWorld['description'], name: string): Promise<string> {
  if (name === 'nats-server') {
    const { hostname, port } = new URL(description.natsUrl);
    return (await canConnect(hostname, Number(port))) ? '' : 'nats-server takes no connection';
  }
  const answer = await ask({ socketPath: join(description.runFolder, 'daemons', name, 'health.sock'), path: '/healthz', timeoutMs: 2000 });
  return answer.status === 200 ? '' : `${name}: ${answer.status === 0 ? answer.error : answer.body}`;
}

function canConnect(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1000 });
    const end = (can: boolean): void => {
      socket.destroy();
      resolve(can);
    };
    socket.once('connect', () => end(true)).once('error', () => end(false)).once('timeout', () => end(false));
  });
}

function openProvider(conduitUrl: string, token: string): Provider {
  const env = { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', CONDUIT_URL: conduitUrl, CONDUIT_TOKEN: token, NO_COLOR: '1' };
  const conduit = (argv: readonly string[]): Promise<Ran> => runCommand([bunPath, join(repository, 'conduit/cli/main.ts'), ...argv], env);
  const provider: Provider = {
    token,
    conduit,
    json: async <T>(argv: readonly string[]) => {
      const ran = await conduit([...argv, '--json']);
      if (ran.exitCode !== 0) throw new Error(`conduit ${argv.join(' ')}: ${ran.stderr}`);
      return JSON.parse(ran.stdout) as T;
    },
    deploy: async (folder) => {
      const ran = await conduit(['deploy', folder]);
      if (ran.exitCode !== 0) throw new Error(`conduit deploy ${folder}: ${ran.stdout}${ran.stderr}`);
    },
    // Asked of the API itself: the command line takes longer to start than a state lasts.
    status: async (app) => fetchJson<AppAnswer>(`${conduitUrl}/v1/apps/${app}`, token),
    usage: async (app) => (await fetchJson<UsageReport>(`${conduitUrl}/v1/usage?app=${app}`, token)).apps.find((row) => row.app === app)?.totals ?? null,
  };
  return provider;
}

async function fetchJson<T>(url: string, token: string): Promise<T> {
  const response = await fetch(url, { headers: { authorization: `Bearer ${token}` } });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}

export function runCommand(argv: readonly string[], env: Record<string, string> = process.env as Record<string, string>): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0] ?? '', argv.slice(1), { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.once('error', reject).once('close', (exitCode) => resolve({ exitCode, stdout, stderr }));
  });
}

export interface Answer {
  /** 0 when there was none; `error` then says why. */
  readonly status: number;
  readonly body: string;
  readonly error: string;
}

/** One request on a connection of its own. */
export function ask(options: { host?: string; name?: string; socketPath?: string; path: string; method?: string; timeoutMs?: number }): Promise<Answer> {
  const { host, name, socketPath, path, method = 'GET', timeoutMs = 30_000 } = options;
  return new Promise((resolve) => {
    const signal = AbortSignal.timeout(timeoutMs);
    const lost = (error: Error): void => resolve({ status: 0, body: '', error: `${(error as NodeJS.ErrnoException).code ?? ''} ${error.message}` });
    const outgoing = request({ ...(socketPath === undefined ? { host } : { socketPath }), port: 80, path, method, agent: false, signal, headers: { ...(name === undefined ? {} : { host: name }), connection: 'close' } }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body, error: '' })).once('error', lost);
    });
    outgoing.once('error', lost).end();
  });
}

/** Writes the folder of an app; `manifest` is TOML without the name, the command and the port. */
export function writeApp(parent: string, app: string, options: { server?: string; command?: readonly string[]; manifest?: string; files?: Readonly<Record<string, string>> } = {}): string {
  const { server = plainServer, command = ['node', 'server.mjs'], manifest = '', files = {} } = options;
  const folder = join(parent, `${app}-${Math.random().toString(36).slice(2, 8)}`);
  const all = { 'server.mjs': server, 'edgepoint.toml': `app = "${app}"\ncommand = ${JSON.stringify(command)}\nport = 3000\n${manifest}\n`, ...files };
  for (const [name, text] of Object.entries(all)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** Boots slowly, so that a restore is always the faster way. GET / answers with the milliseconds of its boot; /burn?ms= burns; POST /note?id= remembers an id, GET /noted tells how often each came. */
export const plainServer = `import { createServer } from 'node:http';
const bootedMs = Date.now();
while (Date.now() - bootedMs < 300);
const noted = new Map();
createServer((request, response) => {
  const url = new URL(request.url, 'http://app');
  let answer = { bootedMs };
  if (url.pathname === '/burn') {
    const ms = Math.min(10000, Number(url.searchParams.get('ms')));
    const began = process.cpuUsage();
    for (let spent = 0; spent < ms; ) {
      for (let step = 0; step < 10000; step += 1) Math.sqrt(step);
      const { user, system } = process.cpuUsage(began);
      spent = (user + system) / 1000;
    }
  } else if (request.method === 'POST') {
    const id = url.searchParams.get('id');
    noted.set(id, (noted.get(id) ?? 0) + 1);
  } else if (url.pathname === '/noted') answer = { bootedMs, ids: noted.size, twice: [...noted].filter(([, times]) => times > 1).map(([id]) => id) };
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(answer));
}).listen(process.env.PORT, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
`;

/** Processes of instances in the world, found by their uids and the cgroup they stand in. */
export function instanceProcesses(id: string, edgepoint?: string): number[] {
  const within = `/edgepoint-${id}/${edgepoint === undefined ? '' : `${edgepoint}/`}`;
  return readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))?.[1] ?? 0) >= 65_536 && readFileSync(`/proc/${name}/cgroup`, 'utf8').includes(within);
    } catch {
      return false; // it ended meanwhile
    }
  }).map(Number);
}

/** Waits until no process of any instance is left, or says which are. */
export function asleep(world: FaultWorld): Promise<void> {
  return until(
    () => `nothing is awake: ${instanceProcesses(world.id).map((pid) => (existsSync(`/proc/${pid}/status`) ? readFileSync(`/proc/${pid}/status`, 'utf8') : '').split('\n').slice(0, 8).join(' ')).join('\n')}`,
    () => instanceProcesses(world.id).length === 0,
  );
}

/** What an edgepoint still has of instances: dead processes that nobody waits for, records, folders, mounts, and slots beyond those kept ready. */
export async function instanceRemains(world: FaultWorld, poolSize = 8): Promise<string[]> {
  const pids = await world.daemons();
  return world.edgepoints.flatMap(({ edgepoint, runFolder }) => {
    const mounts = readFileSync(`/proc/${pids[`${edgepoint}-restored`]}/mountinfo`, 'utf8').split('\n').filter((line) => line.includes(`${runFolder}/instances/`));
    const hierarchies = ['', ...readdirSync('/sys/fs/cgroup')].map((name) => join('/sys/fs/cgroup', name, `edgepoint-${world.id}`, edgepoint)).filter((path) => existsSync(path));
    const slots = new Set(hierarchies.flatMap((path) => readdirSync(path, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))));
    const namespaces = readdirSync('/run/netns').filter((name) => name.startsWith(`${world.id}-${edgepoint}-`));
    return [
      ...deadChildrenOf(pids[`${edgepoint}-restored`] ?? 0).map((name) => `dead process ${name}`),
      ...mounts.map((line) => `mount ${line}`),
      ...readdirSync(join(runFolder, 'instances')).map((name) => `file ${name}`),
      ...(slots.size > poolSize ? [`${slots.size} slots with cgroups: ${[...slots].map((slot) => `${slot} in ${hierarchies.filter((path) => existsSync(join(path, slot))).length}`).join(', ')}`] : []),
      ...(namespaces.length > poolSize ? [`${namespaces.length} slots with network namespaces`] : []),
    ];
  });
}

/** By the parent that each process names (proc(5), field 4 of stat). */
function deadChildrenOf(parent: number): string[] {
  return readdirSync('/proc').flatMap((name) => {
    const stat = /^\d+$/.test(name) ? readText(`/proc/${name}/stat`) : '';
    const [state, parentOf] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' && Number(parentOf) === parent ? [stat.slice(0, stat.lastIndexOf(')') + 1)] : [];
  });
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // it ended meanwhile
  }
}

/** Prints a table for people among the test's comments. */
export function printTable(t: Test, heads: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map((row) => (row[column] ?? '').length)));
  for (const row of [heads, ...rows]) t.comment(row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd());
}
