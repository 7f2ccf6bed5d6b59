import { assertInvariant } from '../../kit/errors.ts';

/** Every bound of the dispatcher. What grows without one of these is a defect. */
export const limits = {
  /** nginx's `large_client_header_buffers` default; beyond it 414. */
  requestLineBytes: 8 * 1024,
  /** Request line and fields together; beyond it 431. */
  requestHeadBytes: 32 * 1024,
  requestFields: 128,
  responseHeadBytes: 64 * 1024,
  responseFields: 256,
  /** Interim (1xx) answers an application may send before the final one. */
  interimResponses: 16,
  methodBytes: 32,
  /** Field names whose lower case is remembered. */
  knownFieldNames: 512,
  knownFieldNameBytes: 64,
  /** Sections of fields whose reading is remembered, of requests and of answers. */
  knownSections: 512,
  knownSectionBytes: 2048,
  /** Host values whose reading is remembered. */
  knownHosts: 4096,
  /** Digits of a content-length: below 2^53, so that a number holds it exactly. */
  contentLengthDigits: 15,
  /** Hexadecimal digits of a chunk size: below 2^52. */
  chunkSizeDigits: 13,
  /** Extensions on one chunk's line; they are dropped on the way. */
  chunkExtensionBytes: 256,
  trailerBytes: 8 * 1024,
  /** Body bytes kept so that an idempotent request can be sent again when its instance dies unanswered. */
  resendBytes: 16 * 1024,
  /** Head and body up to here leave in one write. */
  joinedWriteBytes: 64 * 1024,

  /** Requests held for one application, and in all. */
  waitingPerApp: 1024,
  waitingInAll: 16 * 1024,
  /** Open client connections; beyond it the newest are closed at once. */
  clientConnections: 32 * 1024,
  idleConnectionsPerInstance: 256,
  /** Times one request may be given to an instance that then cannot be reached. */
  attempts: 64,
  /** Times one request may be sent again after bytes of it had left. */
  resends: 1,
  /** Instances that left the table whose traffic is still told, for each application. */
  departedInstances: 32,

  /** TLS handshakes under way, in all and from one network; beyond it the newest are closed at once. */
  handshakes: 2048,
  handshakesPerNetwork: 256,
  /** Networks whose handshakes are remembered. */
  handshakeNetworks: 64 * 1024,
  certificates: 10_000,
  /** A key with its chain, as PEM. */
  certificateBytes: 256 * 1024,

  /** Connections that speak HTTP/2; beyond it the newest are closed at once. */
  http2Connections: 8192,
  /** Requests under way on one of them; more are refused by the stream (RFC 9113, section 5.1.2). */
  http2Streams: 100,
  /** Body bytes that may come on one stream, and on one connection, before somebody takes them. */
  http2StreamWindowBytes: 128 * 1024,
  http2WindowBytes: 256 * 1024,
  /** Bytes of frames queued for a client that does not read; what answers cannot grow it, for they wait. */
  http2QueuedBytes: 1024 * 1024,
  /** CONTINUATION frames of one head: enough for `requestHeadBytes` in frames of 1 KiB. */
  http2Continuations: 32,
  /** Frames that move no request on (settings, pings, priorities, empty data, unknown ones): in a burst, and for each second afterwards. */
  http2EmptyFrames: 1000,
  http2EmptyFramesPerSecond: 200,
  /** Requests that a client takes back before their answer has begun: in a burst, and for each second afterwards. */
  http2Resets: 200,
  http2ResetsPerSecond: 20,

  /** From accepting a connection to the end of its TLS handshake. */
  handshakeMs: 10_000,
  /** Changed certificates are read when so long nothing more has changed. */
  certificatesSettleMs: 100,
  /** From the first byte of a head (or from accepting the connection) to its end. */
  headMs: 15_000,
  /** A client connection between two requests. */
  keepAliveMs: 75_000,
  /** Without one byte of the body from the client. */
  bodyMs: 30_000,
  /** A client that takes no byte of its answer. */
  writeMs: 60_000,
  /** An application that has taken the whole request and says nothing; long polls must fit. */
  responseMs: 300_000,
  /** Until an upstream connection must stand. */
  connectMs: 2_000,
  /** How long input is still read after a refusal, so that the client can read why (RFC 9112, section 9.6). */
  lingerMs: 1_000,
  lingerBytes: 256 * 1024,
  /** A client that ended its side is asked so often, by an interim answer, whether it still reads. */
  endedClientMs: 1_000,
  /** TCP keepalive on client connections begins after this much silence. */
  clientProbeMs: 60_000,
  /** Node's servers close idle connections after 5 s: ours must be gone before. */
  upstreamIdleMs: 4_000,
  /** A request that must not be sent twice takes no idle connection older than this. */
  upstreamFreshMs: 1_000,
  /** An instance that refused a connection is left alone for so long. */
  suspectMs: 250,
  /** Demand of one application is told at most so often, save when requests begin to wait. */
  demandMs: 50,
  /** Before the first route table has come, requests are held for at most this. */
  firstRoutesHoldMs: 10_000,
  /** A canary may have a request wait for so long; then the release that serves has it. */
  canaryHoldMs: 10_000,
  /** How often time-outs are looked for. */
  sweepMs: 250,
  /** SIGTERM: exchanges under way may end until then. */
  stopMs: 4_000,
  /** Before that, clients that ask in this time hear with their answer that the connection ends: an idle one that is closed may have a request on its way. */
  leaveMs: 800,
  /** A client that had connected but not asked when the stop began may still ask within this. */
  stopFreshMs: 250,
} as const;

assertInvariant(limits.requestLineBytes < limits.requestHeadBytes, 'a request line fits in a head');
assertInvariant(limits.waitingPerApp < limits.waitingInAll, 'one application cannot fill the waiting room');
assertInvariant(limits.waitingInAll < limits.clientConnections, 'a full waiting room leaves connections for those who need not wait');
assertInvariant(limits.handshakesPerNetwork < limits.handshakes && limits.handshakes < limits.clientConnections, 'handshakes leave room for connections');
assertInvariant(limits.http2StreamWindowBytes < limits.http2WindowBytes, 'a stream that nobody takes from leaves room for others');
assertInvariant(limits.http2Connections < limits.clientConnections, 'HTTP/2 leaves connections for others');
assertInvariant(limits.upstreamFreshMs < limits.upstreamIdleMs, 'a fresh connection is not yet idle too long');
assertInvariant(limits.upstreamIdleMs < 5_000, "idle upstream connections end before Node's keep-alive time-out");
assertInvariant(limits.sweepMs <= limits.lingerMs / 4, 'time-outs are looked for often enough');
assertInvariant(limits.lingerMs + limits.sweepMs < limits.stopMs && limits.leaveMs + limits.stopMs < 5_000, 'a stop ends within 5 s');
assertInvariant(limits.resendBytes <= limits.joinedWriteBytes, 'what is sent again leaves in one write');
