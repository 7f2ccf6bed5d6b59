import type { Log } from '../host/log.ts';
import type { Metrics } from '../host/metrics.ts';
import { messageOf } from '../kit/errors.ts';
import { parseAddress, unmapped } from './address.ts';
import { respond } from './respond.ts';
import type { Knowledge, Reply } from './respond.ts';
import { rcodeLabel, typeLabel } from './wire/codes.ts';

const latencyBuckets = [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1];

/** `respond` as the sockets want it: counted, and never throwing. */
export function makeAnswering(
  knowledge: Knowledge,
  metrics: Metrics,
  log: Log,
): { answer: (transport: 'udp' | 'tcp') => (message: Uint8Array, from: string) => Uint8Array | null; onError: (thrown: unknown) => void } {
  const count = counters(metrics);
  let defects = 0;
  const answer = (transport: 'udp' | 'tcp') => (message: Uint8Array, from: string): Uint8Array | null => {
    const beganMs = performance.now();
    const address = parseAddress(from);
    if (address === null) return null;
    try {
      const reply = respond(message, { address: unmapped(address), transport }, knowledge);
      count.reply(reply, transport, (performance.now() - beganMs) / 1000);
      return reply.bytes;
    } catch (thrown) {
      // A defect of ours must cost one query, not the service; nor the disk, so of many only the 1st, 2nd, 4th, 8th ... is told whole.
      count.defect();
      defects += 1;
      if ((defects & (defects - 1)) === 0) log.error('a query could not be answered', { defects, error: thrown, message: Buffer.from(message.subarray(0, 512)).toString('hex') });
      return null;
    }
  };
  const onError = (thrown: unknown): void => {
    count.socketError();
    log.debug('a socket error', { error: messageOf(thrown) });
  };
  return { answer, onError };
}

function counters(metrics: Metrics): { reply(reply: Reply, transport: string, seconds: number): void; defect(): void; socketError(): void } {
  const queries = metrics.counter('edgepoint_dispatcher_queries_total', 'Answered queries by type, rcode and transport.', ['type', 'rcode', 'transport']);
  const ignored = metrics.counter('edgepoint_dispatcher_ignored_total', 'Messages that are no query and got no answer.', ['transport']);
  const chosen = metrics.counter('edgepoint_dispatcher_chosen_total', 'Answers by the edgepoint first in them.', ['site']);
  const latency = metrics.histogram('edgepoint_dispatcher_answer_seconds', 'From a query read to its answer made.', ['transport'], latencyBuckets);
  const defects = metrics.counter('edgepoint_dispatcher_defects_total', 'Queries that a defect kept from an answer; should be 0.');
  const socketErrors = metrics.counter('edgepoint_dispatcher_socket_errors_total', 'Errors of single datagrams and connections.');
  return {
    reply: (reply, transport, seconds) => {
      if (reply.bytes === null) return ignored.inc({ transport });
      queries.inc({ type: typeLabel(reply.type), rcode: rcodeLabel(reply.rcode), transport });
      if (reply.site !== '') chosen.inc({ site: reply.site });
      latency.observe({ transport }, seconds);
    },
    defect: () => defects.inc(),
    socketError: () => socketErrors.inc(),
  };
}
