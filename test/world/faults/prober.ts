import { Agent, request } from 'node:http';
import { connect } from 'node:net';

export interface Probe {
  readonly connection: 'kept' | 'fresh';
  readonly method: 'GET' | 'POST';
  readonly name: string;
  readonly id: string;
  readonly startedMs: number;
  endedMs: number;
  /** 0: lost. */
  status: number;
  error: string;
  /** On a connection that had been opened for an earlier request. */
  reused: boolean;
  /** The release that answered, of an app that says it (`x-release`); empty otherwise. */
  release: string;
}

export interface Prober {
  /** All so far; one is under way while its `endedMs` is 0. */
  readonly probes: readonly Probe[];
  stop(): Promise<void>;
}

const answerMsMax = 30_000;

/**
 * Sends requests one after the other in each lane (an app, a kind of connection, a method), with a pause of `pauseMs` between them, until
 * it is stopped; `round` makes the ids of its requests its own. Nothing is ever sent again: what was not answered is lost.
 */
export function startProber(address: string, round: string, lanes: readonly { name: string; connection: 'kept' | 'fresh'; method: 'GET' | 'POST'; pauseMs: number }[]): Prober {
  const probes: Probe[] = [];
  let stopped = false;
  const run = async (lane: (typeof lanes)[number], number: number): Promise<void> => {
    const agent = lane.connection === 'kept' ? new Agent({ keepAlive: true, maxSockets: 1 }) : false;
    for (let count = 0; !stopped; count += 1) {
      const probe: Probe = { connection: lane.connection, method: lane.method, name: lane.name, id: `${round}-${number}-${count}`, startedMs: performance.now(), endedMs: 0, status: 0, error: '', reused: false, release: '' };
      probes.push(probe);
      await sendOne(address, probe, agent);
      await new Promise((resolve) => setTimeout(resolve, lane.pauseMs));
    }
    if (agent !== false) agent.destroy();
  };
  const running = Promise.all(lanes.map(run));
  return {
    probes,
    stop: async () => {
      stopped = true;
      await running;
    },
  };
}

function sendOne(address: string, probe: Probe, agent: Agent | false): Promise<void> {
  return new Promise((resolve) => {
    const end = (status: number, error: string): void => {
      Object.assign(probe, { status, error, endedMs: performance.now(), reused: outgoing.reusedSocket });
      resolve();
    };
    const path = probe.method === 'POST' ? `/note?id=${probe.id}` : '/';
    const headers = { host: probe.name, ...(agent === false ? { connection: 'close' } : {}), ...(probe.method === 'POST' ? { 'content-length': 0 } : {}) };
    const outgoing = request({ host: address, port: 80, path, method: probe.method, agent, headers, signal: AbortSignal.timeout(answerMsMax) }, (response) => {
      probe.release = String(response.headers['x-release'] ?? '');
      response.resume();
      let said = '';
      response.setEncoding('utf8').on('data', (part: string) => (said += part));
      response.once('end', () => end(response.statusCode ?? 0, response.statusCode === 502 ? said.slice(0, 300) : '')).once('error', (error) => end(0, error.message));
    });
    outgoing.once('error', (error: NodeJS.ErrnoException) => end(0, error.code ?? error.message)).end();
  });
}

/** How long the kernel takes to accept a new connection. */
export function connectMs(address: string): Promise<number> {
  const fromMs = performance.now();
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port: 80 });
    socket.once('error', reject).once('connect', () => {
      socket.destroy();
      resolve(performance.now() - fromMs);
    });
  });
}
