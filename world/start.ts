import { closeSync, existsSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Failure } from '../kit/errors.ts';
import { formatMs } from '../kit/units.ts';
import { beginWorld } from './begin.ts';
import type { WorldOptions } from './begin.ts';
import { prepareBus } from './bus.ts';
import { removeWorld } from './clean.ts';
import { run } from './command.ts';
import type { Ran } from './command.ts';
import { openControl } from './control.ts';
import { configPath, stages, worldDaemons } from './daemons.ts';
import type { Daemon } from './daemons.ts';
import { logFolder, makeFolders } from './folders.ts';
import { readJournal } from './journal.ts';
import type { JournalWriter } from './journal.ts';
import { commandLine, makeDaemonCgroup } from './launch.ts';
import { bindRepository, makePinsFolder, pinMountNamespace } from './mounts.ts';
import { addClient, makeNetwork } from './network.ts';
import type { ClientPlace, NamespacePlan, WorldPlan } from './plan.ts';
import { openSockets } from './sockets.ts';
import { openSupervisor } from './supervise.ts';
import type { Supervisor } from './supervise.ts';
import { surprises } from './surprises.ts';
import { writePrivateFile } from './users.ts';

/** What a world is, for those who use it; `bun world.ts up --json` prints it. */
export interface WorldDescription {
  readonly id: string;
  readonly conduitUrl: string;
  /** Of the global dispatcher, port 53. */
  readonly dnsAddresses: readonly string[];
  readonly zoneName: string;
  readonly edgepoints: readonly { zone: string; edgepoint: string; ipv4: string; ipv6: string; netns: string; runFolder: string; dataFolder: string }[];
  readonly runFolder: string;
  readonly dataFolder: string;
  readonly logFolder: string;
  readonly natsUrl: string;
  /** Process ids by name, at the time of asking. */
  readonly daemons: Readonly<Record<string, number>>;
  /** Daemons whose code is not in this clone. */
  readonly absent: readonly string[];
}

export interface World {
  describe(): WorldDescription;
  readonly plan: WorldPlan;
  /** Makes an account at the conduit and returns its token. */
  newProvider(name: string): Promise<string>;
  /** Runs a program inside one of the world's network namespaces, to its end. */
  runIn(netns: string, argv: readonly string[], env?: Record<string, string>): Promise<Ran>;
  /** A network namespace for an end user, whom the global dispatcher sees at that place. */
  addClient(name: string, place: ClientPlace): Promise<NamespacePlan>;
  /** False when no such daemon runs. */
  kill(name: string, signal: NodeJS.Signals): boolean;
  /** Ends and removes everything; returns what had been left by something that should have removed it itself. */
  stop(): Promise<readonly string[]>;
}

const repositoryRoot = join(import.meta.dirname, '..');

/** Brings up all parts on this machine. When it fails or is aborted, everything made so far is removed first. */
export async function startWorld(options: WorldOptions): Promise<World> {
  const { plan, journal } = await beginWorld(options);
  const opened: OpenedWorld = { control: null, plan, journal, supervisor: null, descriptors: [], daemons: [], absent: [] };
  try {
    await bringUp(opened, options);
    return worldOf(opened, options);
  } catch (thrown) {
    await takeDown(opened, options.say);
    throw thrown;
  }
}

interface OpenedWorld {
  control: { stop(): void } | null;
  readonly plan: WorldPlan;
  readonly journal: JournalWriter;
  supervisor: Supervisor | null;
  readonly descriptors: number[];
  daemons: readonly Daemon[];
  absent: readonly string[];
}

async function bringUp(world: OpenedWorld, options: WorldOptions): Promise<void> {
  const { plan, journal } = world;
  const all = worldDaemons(plan, totalmem());
  world.daemons = all.filter((daemon) => daemon.entry === null || existsSync(join(repositoryRoot, daemon.entry)));
  world.absent = all.filter((daemon) => !world.daemons.includes(daemon)).map((daemon) => daemon.name);
  makeFolders(plan, all);
  await bindRepository(plan, repositoryRoot, journal);
  await makePinsFolder(plan, journal);
  await makeNetwork(plan, journal);
  for (const edgepoint of plan.edgepoints) await pinMountNamespace(plan, edgepoint, journal);
  options.signal.throwIfAborted();
  const cgroup = makeDaemonCgroup(plan, journal);
  const supervisor = openSupervisor({ commandOf: (daemon) => commandLine(plan, cgroup, daemon), journal, logFolder: logFolder(plan), say: options.say });
  world.supervisor = supervisor;
  const bus = await prepareBus(plan, world.daemons);
  world.control = openControl(plan, supervisor, world.daemons);
  for (const stage of Object.values(stages)) {
    await Promise.all(world.daemons.filter((daemon) => daemon.stage === stage).map((daemon) => startDaemon(world, supervisor, daemon, options)));
    options.signal.throwIfAborted();
    if (stage === stages.bus) await bus.prepareStreams();
  }
}

async function startDaemon(world: OpenedWorld, supervisor: Supervisor, daemon: Daemon, options: WorldOptions): Promise<void> {
  const startedMs = performance.now();
  if (daemon.settings !== null) writePrivateFile(configPath(world.plan, daemon.name), JSON.stringify(daemon.settings, null, 2), daemon.user);
  const descriptors = daemon.netns === null ? [] : openSockets(`/run/netns/${daemon.netns}`, daemon.sockets);
  world.descriptors.push(...descriptors);
  await Promise.race([supervisor.start(daemon, descriptors), aborted(options.signal)]);
  options.say(`${daemon.name} is healthy after ${formatMs(performance.now() - startedMs)}`);
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

const stopBudgetMs = 8_000;
const stageGraceMs = 3_000;

async function takeDown(world: OpenedWorld, say: (line: string) => void): Promise<readonly string[]> {
  world.control?.stop();
  const deadline = performance.now() + stopBudgetMs;
  const inReverse = Object.values(stages).toReversed();
  for (const stage of inReverse) {
    const names = world.daemons.filter((daemon) => daemon.stage === stage).map((daemon) => daemon.name);
    await world.supervisor?.stop(names, Math.max(200, Math.min(stageGraceMs, deadline - performance.now())));
  }
  world.supervisor?.close();
  for (const descriptor of world.descriptors.splice(0)) closeSync(descriptor);
  const journal = readJournal(world.plan.id);
  const left = surprises(await removeWorld(world.plan.id, journal), journal);
  for (const thing of left) say(`was left, and is removed: ${thing}`);
  return left;
}

function worldOf(world: OpenedWorld, options: WorldOptions): World {
  const { plan, journal } = world;
  const clients = new Map<ClientPlace, number>();
  let stopped: Promise<readonly string[]> | null = null;
  return {
    plan,
    describe: () => describe(world),
    newProvider: (name) => newProvider(world, name),
    runIn: (netns, argv, env = {}) => run(['ip', 'netns', 'exec', netns, ...argv], { env }),
    addClient: (name, place) => {
      const index = clients.get(place) ?? 0;
      clients.set(place, index + 1);
      return addClient(plan, journal, { name, place, index });
    },
    kill: (name, signal) => world.supervisor?.kill(name, signal) ?? false,
    stop: () => (stopped ??= takeDown(world, options.say)),
  };
}

function describe(world: OpenedWorld): WorldDescription {
  const { plan } = world;
  return {
    id: plan.id,
    conduitUrl: `http://${plan.conduitHost === '0.0.0.0' ? '127.0.0.1' : plan.conduitHost}:${plan.conduitPort}`,
    dnsAddresses: [plan.globalDispatcher.ipv4, plan.globalDispatcher.ipv6],
    zoneName: 'edge.test',
    edgepoints: plan.edgepoints.map(({ zone, edgepoint, ipv4, ipv6, netns, runFolder, dataFolder }) => ({ zone, edgepoint, ipv4, ipv6, netns, runFolder, dataFolder })),
    runFolder: plan.runFolder,
    dataFolder: plan.dataFolder,
    logFolder: logFolder(plan),
    natsUrl: plan.natsUrl,
    daemons: world.supervisor?.pids() ?? {},
    absent: world.absent,
  };
}

async function newProvider(world: OpenedWorld, name: string): Promise<string> {
  const conduit = world.daemons.find((daemon) => daemon.name === 'conduit');
  if (conduit === undefined) throw new Failure('no-conduit', 'This clone has no conduit, so it has no accounts.');
  const cgroup = makeDaemonCgroup(world.plan, world.journal);
  const command = commandLine(world.plan, cgroup, { ...conduit, argv: ['new-provider', name, ...conduit.argv] });
  const ran = await run(command.argv, { env: command.env });
  const token = ran.stdout.trim().split(/\s+/).at(-1);
  if (ran.exitCode === 0 && token !== undefined && token !== '') return token;
  throw new Failure('provider-not-made', `The conduit made no account for ${name}: ${ran.stderr.trim() || ran.stdout.trim()}`);
}
