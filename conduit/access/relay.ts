import type { Bus } from '../../host/bus.ts';
import type { Log } from '../../host/log.ts';
import { messageOf } from '../../kit/errors.ts';
import { SendWindow } from '../../kit/flow.ts';
import { newId } from '../../kit/ids.ts';
import type { Owner, RandomBytes, Site } from '../../kit/ids.ts';
import { beatMs, encodeFrame, numbered, readFrame, readNumbered, silentMsMax } from '../../kit/wire/access.ts';
import type { AccessClose, AccessFrame, AccessWish } from '../../kit/wire/access.ts';
import { RecordReader } from '../../kit/wire/session.ts';
import { accessSubject } from '../../kit/wire/subjects.ts';
import type { AuditStore } from '../store/audit.ts';

/** Accesses of one provider and of all at once. */
const perProviderMax = 64;
const inAllMax = 512;
/** Of those of one provider, those that run a command. */
const sessionsPerProviderMax = 16;

/** The provider's side: a WebSocket. */
export interface AccessClient {
  /** False when it is gone, or so slow that it is as good as gone. */
  send(frame: Uint8Array): boolean;
  close(): void;
}

export interface AccessOrder {
  readonly owner: Owner;
  readonly tokenId: string;
  readonly wish: AccessWish;
  /** Its number in the record of accesses. */
  readonly audited: number;
  /** Where it goes; or why it cannot. */
  readonly to: { readonly ok: true; readonly site: Site } | { readonly ok: false; readonly code: string; readonly reason: string };
}

/** What a WebSocket of an access carries with it. */
export interface AccessSocketData {
  readonly order: AccessOrder;
  access: RelayedAccess | null;
}

export interface RelayPorts {
  readonly bus: Bus;
  readonly log: Log;
  readonly randomBytes: RandomBytes;
  /** Whether a token is still good. */
  readonly isGood: (tokenId: string) => Promise<boolean>;
  readonly nowMs: () => number;
  readonly audit: Pick<AuditStore, 'opened' | 'ended'>;
}

/** What a client of an access may send. */
const fromClient: ReadonlySet<AccessFrame['kind']> = new Set(['data', 'credit', 'end', 'close', 'beat']);

/**
 * One access in the conduit, between a WebSocket and the bus. It holds nothing: both ends keep to their windows, and whoever does not is cut.
 *
 * Modes: open -> over.
 */
export class RelayedAccess {
  readonly order: AccessOrder;
  private readonly id: string;
  private readonly site: Site;
  private readonly client: AccessClient;
  private readonly relay: AccessRelay;
  private sent = 0;
  private expected = 0;
  private heardMs: number;
  private readonly sinceMs: number;
  private instance = '';
  private readonly up = new SendWindow();
  private readonly down = new SendWindow();
  private over = false;
  /** What the command of a session ended with. */
  private exitStatus: number | null = null;
  private readonly records: RecordReader | null;

  constructor(relay: AccessRelay, about: { id: string; site: Site; order: AccessOrder; client: AccessClient }) {
    this.relay = relay;
    this.id = about.id;
    this.site = about.site;
    this.order = about.order;
    this.client = about.client;
    this.sinceMs = this.heardMs = relay.ports.nowMs();
    this.records = about.order.wish.kind === 'connect' ? null : new RecordReader();
  }

  begin(): void {
    this.toEdgepoint({ kind: 'open', open: { ...this.order.owner, ...this.order.wish } });
  }

  fromClient(bytes: Uint8Array): void {
    if (this.over) return;
    const frame = readFrame(bytes);
    if (frame === null || !fromClient.has(frame.kind)) return this.end({ code: 'access-broken', text: 'this is no frame of an access' });
    if (frame.kind === 'beat') return;
    if (frame.kind === 'close') return this.clientGone(frame.close);
    if (!this.keeps(frame, this.up, this.down)) return this.end({ code: 'access-broken', text: 'more came than was asked for' });
    this.toEdgepoint(frame);
  }

  clientGone(close: AccessClose = { code: 'client-gone', text: 'the client has gone' }): void {
    if (this.over) return;
    this.toEdgepoint({ kind: 'close', close });
    this.finish(close.code);
  }

  fromEdgepoint(bytes: Uint8Array): void {
    const read = readNumbered(bytes);
    const frame = read === null ? null : readFrame(read.frame);
    this.heardMs = this.relay.ports.nowMs();
    // A head that knows nothing of it begins anew with its numbers.
    if (frame?.kind === 'close') return this.end(frame.close, false);
    if (read === null || frame === null || frame.kind === 'open' || read.number !== this.expected || !this.keeps(frame, this.down, this.up)) {
      return this.end({ code: 'access-cut', text: 'something was lost on its way from the edgepoint' });
    }
    this.expected = (this.expected + 1) % 2 ** 32;
    if (frame.kind === 'opened') this.opened(frame.opened.instance);
    if (frame.kind === 'data') this.noteExit(frame.bytes);
    if (!this.client.send(read.frame)) this.clientGone();
  }

  async beat(): Promise<void> {
    if (this.relay.ports.nowMs() - this.heardMs > silentMsMax) return this.end({ code: 'edgepoint-away', text: 'the edgepoint is silent' });
    this.toEdgepoint({ kind: 'beat' });
    if (!(await this.relay.ports.isGood(this.order.tokenId))) this.end({ code: 'token-wrong', text: 'the token has been revoked' });
  }

  /** Ends both sides. */
  end(close: AccessClose, tellEdgepoint = true): void {
    if (this.over) return;
    if (tellEdgepoint) this.toEdgepoint({ kind: 'close', close });
    if (this.over) return;
    this.client.send(encodeFrame({ kind: 'close', close }));
    this.client.close();
    this.finish(close.code);
  }

  private opened(instance: string): void {
    this.instance = instance;
    this.relay.record(this.relay.ports.audit.opened(this.order.audited, instance));
  }

  /** Of what is said only how it ended is looked for. */
  private noteExit(bytes: Uint8Array): void {
    for (const record of this.records?.take(bytes) ?? []) if (record.kind === 'exit') this.exitStatus = record.status;
  }

  private keeps(frame: AccessFrame, sending: SendWindow, receiving: SendWindow): boolean {
    if (frame.kind === 'data') return sending.spend(frame.bytes.length);
    return frame.kind === 'credit' ? receiving.credit(frame.bytes) : true;
  }

  private toEdgepoint(frame: AccessFrame): void {
    const told = this.relay.ports.bus.publish(accessSubject(this.site, 'to', this.id), numbered(this.sent, encodeFrame(frame)));
    this.sent = (this.sent + 1) % 2 ** 32;
    if (!told && frame.kind !== 'close') this.end({ code: 'bus-away', text: 'the message bus is away' }, false);
  }

  private finish(code: string): void {
    this.over = true;
    this.relay.forget(this.site, this.id);
    const { owner, tokenId, wish, audited } = this.order;
    const tookMs = Math.round(this.relay.ports.nowMs() - this.sinceMs);
    this.relay.record(this.relay.ports.audit.ended(audited, { tookMs, code, exitStatus: this.exitStatus }));
    // What a command is may be nobody's business but its provider's.
    this.relay.ports.log.info('an access has ended', { ...owner, ...this.site, kind: wish.kind, port: wish.port ?? 0, instance: this.instance, token: tokenId, tookMs, code });
  }
}

/** All accesses of this conduit. */
export class AccessRelay {
  readonly ports: RelayPorts;
  private readonly open = new Map<string, RelayedAccess>();
  private readonly subscription: { stop(): void };
  private readonly beats: NodeJS.Timeout;

  constructor(ports: RelayPorts) {
    this.ports = ports;
    this.subscription = ports.bus.subscribeBytes('access.*.*.from.*', (subject, bytes) => {
      const access = this.open.get(subject);
      if (access === undefined) this.refuseUnknown(subject, bytes);
      else access.fromEdgepoint(bytes);
    });
    this.beats = setInterval(() => {
      for (const access of this.open.values()) access.beat().catch((thrown: unknown) => access.end({ code: 'unexpected', text: String(thrown) }));
    }, beatMs);
  }

  get size(): number {
    return this.open.size;
  }

  /** Null when it has been refused, and the client told so. */
  begin(order: AccessOrder, client: AccessClient): RelayedAccess | null {
    const refuse = (code: string, text: string): null => {
      this.record(this.ports.audit.ended(order.audited, { tookMs: 0, code, exitStatus: null }));
      client.send(encodeFrame({ kind: 'close', close: { code, text } }));
      client.close();
      return null;
    };
    if (!order.to.ok) return refuse(order.to.code, order.to.reason);
    if (!this.ports.bus.up) return refuse('bus-away', 'the message bus is away');
    const ofProvider = [...this.open.values()].filter((access) => access.order.owner.provider === order.owner.provider);
    const sessions = ofProvider.filter((access) => access.order.wish.kind !== 'connect').length;
    if (this.open.size >= inAllMax || ofProvider.length >= perProviderMax) return refuse('busy', 'too many accesses are open');
    if (order.wish.kind !== 'connect' && sessions >= sessionsPerProviderMax) return refuse('busy', `${sessionsPerProviderMax} sessions of yours are open`);
    const name = newId('access', this.ports.randomBytes);
    const { site } = order.to;
    const access = new RelayedAccess(this, { id: name, site, order, client });
    // By the subject of its answers: no other edgepoint can speak on it.
    this.open.set(accessSubject(site, 'from', name), access);
    access.begin();
    return access;
  }

  /** What a conduit that was killed has left open ends at once. Nothing answers a close, so that two who know nothing of an access do not talk for ever. */
  private refuseUnknown(subject: string, bytes: Uint8Array): void {
    const [, zone = '', edgepoint = '', , name = ''] = subject.split('.');
    const read = readNumbered(bytes);
    if (read === null || readFrame(read.frame)?.kind === 'close') return;
    const close = { code: 'conduit-away', text: 'the conduit does not know of it (any more)' };
    this.ports.bus.publish(accessSubject({ zone, edgepoint }, 'to', name), numbered(0, encodeFrame({ kind: 'close', close })));
  }

  /** What cannot be written any more is at least told. */
  record(writing: Promise<void>): void {
    writing.catch((thrown: unknown) => this.ports.log.error('the record of an access could not be written', { reason: messageOf(thrown) }));
  }

  forget(site: Site, name: string): void {
    this.open.delete(accessSubject(site, 'from', name));
  }

  stop(): void {
    clearInterval(this.beats);
    for (const access of this.open.values()) access.end({ code: 'conduit-ends', text: 'the conduit ends' });
    this.subscription.stop();
  }
}
