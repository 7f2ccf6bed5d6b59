import type { Bus } from '../host/bus.ts';
import type { Log } from '../host/log.ts';
import { Failure, codeOf, messageOf } from '../kit/errors.ts';
import type { Site } from '../kit/ids.ts';
import { issuedCertificateMessage } from '../kit/wire/certificates.ts';
import { buckets } from '../kit/wire/subjects.ts';
import { encodeMessage } from '../kit/wire/version.ts';
import type { Authority, Stage } from './authority.ts';
import { planRenewals } from './plan.ts';
import type { Attempts, CertificateWarning, RenewalPlan, RenewalRules, WantedCertificate } from './plan.ts';
import { share } from './share.ts';
import type { Shared } from './share.ts';
import type { CertificateStore, StoredCertificate } from './store.ts';

/** A certificate there shall be, and who shall have it (null: all edgepoints). */
export interface Wish extends WantedCertificate {
  readonly sites: ReadonlySet<string> | null;
}

export interface CertifierPorts {
  readonly bus: Bus;
  readonly store: CertificateStore;
  readonly authority: Authority;
  readonly stage: Stage;
  readonly rules: RenewalRules;
  readonly sites: readonly Site[];
  readonly wishes: () => readonly Wish[];
  /** All wishes were told once: nothing is taken back before. */
  readonly allTold: () => boolean;
  readonly sealTo: (site: string) => string;
  readonly nowMs: () => number;
  readonly log: Log;
  readonly ordered: (outcome: string) => void;
}

/** It looks again so often though nothing is due: the wall clock may be set. */
const lookMsMax = 600_000;
const lookMsMin = 200;
/** The bus is away, or broke off. */
const againMs = 1_000;

/** Orders what is due, one after the other, and keeps the bus as it should be. All steps may be repeated. */
export class Certifier {
  private readonly ports: CertifierPorts;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private working: Promise<void> | null = null;
  private again = false;
  private stopped = false;
  /** Told on the bus, by name: what stands there is not asked each time. */
  private readonly told = new Map<string, string>();
  private said = new Set<string>();
  /** What one that was killed had shown is taken away. */
  private cleared = false;
  warnings: readonly CertificateWarning[] = [];
  held: ReadonlyMap<string, StoredCertificate> = new Map();
  private attempts: ReadonlyMap<string, Attempts> = new Map();

  constructor(ports: CertifierPorts) {
    this.ports = ports;
  }

  /** Something may have changed. `lost`: also what lies on the bus. */
  wake(lost = false): void {
    if (lost) this.told.clear();
    if (this.stopped) return;
    if (this.working !== null) {
      this.again = true;
      return;
    }
    if (this.timer !== null) clearTimeout(this.timer);
    this.working = this.work().finally(() => {
      this.working = null;
      if (this.again) this.wake();
    });
  }

  /** What is under way is not waited for: it is repeated at the next start. */
  stop(): void {
    this.stopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }

  private async work(): Promise<void> {
    this.again = false;
    let waitMs = againMs;
    try {
      const plan = await this.plan();
      await this.keepBus(plan);
      const [order] = plan.orders;
      if (order === undefined) waitMs = Math.min(lookMsMax, Math.max(lookMsMin, plan.nextMs - this.ports.nowMs()));
      else if (this.ports.bus.up) {
        await this.order(order, order.reason);
        waitMs = 0;
      }
    } catch (thrown) {
      this.ports.log.warn('certificates cannot be looked after now', { code: codeOf(thrown), reason: messageOf(thrown) });
    }
    if (this.stopped) return;
    this.timer = setTimeout(() => this.wake(), waitMs);
  }

  private async plan(): Promise<RenewalPlan> {
    const { store, wishes, nowMs, rules, log } = this.ports;
    this.held = await store.certificates();
    this.attempts = await store.attempts();
    const plan = planRenewals(nowMs(), wishes(), this.held, this.attempts, rules);
    this.warnings = plan.warnings;
    for (const { name, code, text } of plan.warnings) if (!this.said.has(`${code} ${name}`)) log.warn(text, { code, name });
    this.said = new Set(plan.warnings.map(({ name, code }) => `${code} ${name}`));
    return plan;
  }

  private async order(wanted: WantedCertificate, reason: string): Promise<void> {
    const { store, authority, stage, nowMs, log, ordered } = this.ports;
    const { name } = wanted;
    log.info(`a certificate for ${name} is asked for: ${reason}`, { name });
    try {
      const { pem, ...issued } = await authority.order(wanted, stage);
      await store.save({ name, names: wanted.names, ...issued }, pem);
      log.info(`a certificate for ${name} is there until ${new Date(issued.notAfterMs).toISOString()}`, { name });
      ordered('issued');
    } catch (thrown) {
      // Of the bus or the disk: it is no failure of the authority, and is tried again at once when they are back.
      if (!(thrown instanceof Failure) || codeOf(thrown).startsWith('bus-')) throw thrown;
      log.warn(`no certificate for ${name}: ${thrown.message}`, { name, code: thrown.code });
      await store.noteFailure(name, { lastMs: nowMs(), code: thrown.code, text: thrown.message });
      ordered(thrown.code);
    }
  }

  /** What edgepoints and the conduit read. */
  private async keepBus(plan: RenewalPlan): Promise<void> {
    const { bus, sites, sealTo, store, wishes, allTold, nowMs, log } = this.ports;
    if (!bus.up) return;
    if (!this.cleared) await this.ports.stage.clear();
    this.cleared = true;
    const wanted = wishes();
    const shared = wanted.flatMap(({ name, sites: only }): Shared[] => {
      const have = this.held.get(name);
      return have === undefined ? [] : [{ name, certificateId: have.certificateId, sites: only }];
    });
    const gone = allTold() ? plan.unwanted : [];
    const state = JSON.stringify([shared.map((each) => [each.name, each.certificateId, each.sites === null ? '' : [...each.sites].join()]), gone, sites.map((site) => sealTo(`${site.zone}.${site.edgepoint}`))]);
    if (this.told.get('') !== state) {
      await share(sites, shared, gone, { bus, sealTo, pem: (name) => store.pem(name), onShared: (site, name) => log.info(`${site} is given the certificate for ${name}`, { site, name }) });
      this.told.set('', state);
    }
    for (const { name, names } of wanted) await this.tell(name, this.statusText(name, names, plan));
    for (const name of gone) {
      await this.tell(name, null);
      // Kept till it ends: who takes a domain back and adds it again needs no other.
      if ((this.held.get(name)?.notAfterMs ?? 0) < nowMs()) await store.remove(name);
    }
  }

  private statusText(name: string, names: readonly string[], plan: RenewalPlan): string {
    const have = this.held.get(name);
    const warning = plan.warnings.find((each) => each.name === name);
    const attempt = this.attempts.get(name);
    const nextMs = plan.waiting.find((each) => each.name === name)?.untilMs ?? null;
    return encodeMessage(issuedCertificateMessage, {
      name,
      names: [...(have?.names ?? names)],
      notBeforeMs: have?.notBeforeMs ?? null,
      notAfterMs: have?.notAfterMs ?? null,
      nextMs,
      code: attempt?.code ?? warning?.code ?? '',
      text: attempt?.text ?? warning?.text ?? '',
    });
  }

  private async tell(name: string, text: string | null): Promise<void> {
    const { bus } = this.ports;
    if (this.told.get(name) === (text ?? '')) return;
    if (text !== null) await bus.putKv(buckets.issued, name, text);
    else if ((await bus.getKv(buckets.issued, name)) !== null) await bus.deleteKv(buckets.issued, name);
    this.told.set(name, text ?? '');
  }
}
