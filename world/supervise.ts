import { connect } from 'node:net';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure, messageOf } from '../kit/errors.ts';
import type { Daemon } from './daemons.ts';
import { processIdentity } from './journal.ts';
import type { JournalWriter } from './journal.ts';
import { closeDaemonLog, cutGrownLogs, lastLines, logPath, openDaemonLog } from './logs.ts';
import { freshRestartState, planRestart } from './restart.ts';
import type { RestartState } from './restart.ts';

export interface SupervisorPorts {
  /** The whole command line, with its namespaces, its user and its cgroup. */
  readonly commandOf: (daemon: Daemon) => { argv: string[]; env: Record<string, string> };
  readonly journal: JournalWriter;
  readonly logFolder: string;
  readonly say: (line: string) => void;
}

/**
 * A daemon is: starting -> healthy -> (ended -> starting)* -> stopped. `stopping` ends the circle.
 * The descriptors it inherits are held by the supervisor, over all its starts.
 */
interface Kept {
  readonly daemon: Daemon;
  readonly descriptors: readonly number[];
  child: Bun.Subprocess | null;
  startedMs: number;
  restarts: RestartState;
  stopping: boolean;
  /** Ended in order to be started again at once. */
  renewing: boolean;
  /** Fulfilled when it has ended and will not be started again. */
  readonly ended: Promise<void>;
  readonly markEnded: () => void;
}

export interface Supervisor {
  /** Starts a daemon and returns when it is healthy; from then on it is started again whenever it ends. */
  start(daemon: Daemon, descriptors: readonly number[]): Promise<void>;
  pids(): Record<string, number>;
  kill(name: string, signal: NodeJS.Signals): boolean;
  /** SIGTERM to the daemons of one stage together, SIGKILL to those still there after `graceMs`. */
  stop(names: readonly string[], graceMs: number): Promise<void>;
  /**
   * Ends a daemon (SIGTERM; SIGKILL after `graceMs`) and starts it at once from what lies in the clone now; resolves when it is healthy. Rejects with
   * Failure `daemon-did-not-start`; it is then started again and again, as any.
   */
  renew(name: string, graceMs: number): Promise<void>;
  close(): void;
}

const startDeadlineMs = 30_000;
const quickEndsWhileStarting = 3;
const logCheckMs = 10_000;
const launchRetryMs = 2_000;

export function openSupervisor(ports: SupervisorPorts): Supervisor {
  const kept = new Map<string, Kept>();
  const logTimer = setInterval(() => cutGrownLogs(ports.logFolder, [...kept.keys()]), logCheckMs);

  const launch = (one: Kept): void => {
    const { argv, env } = ports.commandOf(one.daemon);
    const log = openDaemonLog(ports.logFolder, one.daemon.name);
    const child = Bun.spawn(argv, {
      // A session of its own: Ctrl-C on the terminal is for the supervisor, which stops all in order.
      detached: true,
      cwd: '/',
      env,
      stdio: ['ignore', log, log, ...one.descriptors],
    });
    closeDaemonLog(log);
    one.child = child;
    one.startedMs = performance.now();
    const identity = processIdentity(child.pid);
    if (identity !== null) ports.journal.write({ made: 'process', name: one.daemon.name, process: identity });
    void child.exited.then(() => afterEnd(one, child));
  };

  const afterEnd = async (one: Kept, child: Bun.Subprocess): Promise<void> => {
    one.child = null;
    if (one.stopping) return one.markEnded();
    if (one.renewing) return startAgain(one, 0);
    const plan = planRestart(one.restarts, performance.now() - one.startedMs);
    one.restarts = plan.state;
    ports.say(`${one.daemon.name} ended (${endOf(child)}), it is started again in ${plan.pauseMs} ms: ${plan.reason}`);
    await startAgain(one, plan.pauseMs);
  };

  const startAgain = async (one: Kept, pauseMs: number): Promise<void> => {
    await sleep(pauseMs);
    if (one.stopping) return one.markEnded();
    try {
      launch(one);
    } catch (thrown) {
      // The machine may be out of processes or descriptors for a while.
      ports.say(`${one.daemon.name} cannot be started: ${messageOf(thrown)}; it is tried again in ${launchRetryMs} ms`);
      await startAgain(one, launchRetryMs);
    }
  };

  const start = async (daemon: Daemon, descriptors: readonly number[]): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const one: Kept = { daemon, descriptors, child: null, startedMs: 0, restarts: freshRestartState, stopping: false, renewing: false, ended: promise, markEnded: resolve };
    kept.set(daemon.name, one);
    launch(one);
    await untilHealthy(one);
  };

  const untilHealthy = async (one: Kept): Promise<void> => {
    const deadline = performance.now() + startDeadlineMs;
    let why = await healthProblem(one.daemon);
    while (why !== null) {
      if (one.stopping) return;
      if (one.restarts.quickEnds >= quickEndsWhileStarting || performance.now() > deadline) throw startFailure(one.daemon, why, ports.logFolder);
      await sleep(15);
      why = await healthProblem(one.daemon);
    }
    one.restarts = freshRestartState;
  };

  const renew = async (name: string, graceMs: number): Promise<void> => {
    const one = kept.get(name);
    const child = one?.child ?? null;
    if (one === undefined || child === null || one.stopping) throw new Failure('daemon-away', `${name} does not run just now`, { remedy: 'Look at its log, and try again when it runs.' });
    one.renewing = true;
    child.kill('SIGTERM');
    const killing = setTimeout(() => child.kill('SIGKILL'), graceMs);
    await child.exited;
    clearTimeout(killing);
    while (one.child === null && !one.stopping) await sleep(1);
    one.renewing = false;
    await untilHealthy(one);
  };

  const stop = async (names: readonly string[], graceMs: number): Promise<void> => {
    const stopped = names.flatMap((name) => kept.get(name) ?? []);
    for (const one of stopped) {
      one.stopping = true;
      if (one.child === null) one.markEnded();
      else one.child.kill('SIGTERM');
    }
    const all = Promise.all(stopped.map((one) => one.ended));
    const inTime = await Promise.race([all.then(() => true), sleep(graceMs, false)]);
    if (inTime) return;
    for (const one of stopped) {
      if (one.child === null) continue;
      ports.say(`${one.daemon.name} did not end within ${(graceMs / 1000).toFixed(1)} s of SIGTERM and is killed`);
      one.child.kill('SIGKILL');
    }
    await Promise.race([all, sleep(2_000)]);
  };

  return {
    start,
    stop,
    renew,
    pids: () => Object.fromEntries([...kept].flatMap(([name, one]) => (one.child === null ? [] : [[name, one.child.pid]]))),
    kill: (name, signal) => {
      const child = kept.get(name)?.child ?? null;
      child?.kill(signal);
      return child !== null;
    },
    close: () => clearInterval(logTimer),
  };
}

function endOf(child: Bun.Subprocess): string {
  return child.signalCode === null ? `exit code ${child.exitCode ?? '?'}` : `${child.signalCode}`;
}

function startFailure(daemon: Daemon, why: string, logFolder: string): Failure {
  return new Failure('daemon-did-not-start', `${daemon.name} did not become healthy: ${why}. The end of ${logPath(logFolder, daemon.name)}:\n${lastLines(logFolder, daemon.name, 15)}`, {
    remedy: 'The lines above are its own. EDGEPOINT_LOG_LEVEL=debug makes it say more.',
  });
}

/** Null when it answers that all is well. */
async function healthProblem(daemon: Daemon): Promise<string | null> {
  const { health } = daemon;
  if (health.kind === 'tcp') return (await canConnect(health.address, health.port)) ? null : `nothing listens on ${health.address}:${health.port}`;
  try {
    const answer = await fetch('http://localhost/healthz', { unix: health.path, signal: AbortSignal.timeout(2_000) });
    return answer.ok ? null : `its health is ${answer.status}: ${(await answer.text()).slice(0, 500)}`;
  } catch {
    return 'its health socket does not answer';
  }
}

function canConnect(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1_000 });
    const end = (works: boolean): void => {
      socket.destroy();
      resolve(works);
    };
    socket.once('connect', () => end(true)).once('error', () => end(false)).once('timeout', () => end(false));
  });
}
