/**
 * Which certificates are asked for now, and why: a pure decision. Certificates end by the wall clock, so all times here are of it, in ms
 * since 1970.
 */

/** A certificate there shall be. */
export interface WantedCertificate {
  /** Its first name without `*.`. */
  readonly name: string;
  readonly names: readonly string[];
  readonly proof: 'dns-01' | 'http-01';
}

export interface HeldCertificate {
  readonly name: string;
  readonly names: readonly string[];
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** How asking went since the last success. */
export interface Attempts {
  readonly failures: number;
  readonly lastMs: number;
  readonly code: string;
  readonly text: string;
}

export interface RenewalRules {
  /** After the first failure; four times as long after each further one, but no longer than a twelfth of the lifetime of one that is held. */
  readonly retryMs: number;
  readonly retryMsMax: number;
}
/** Let's Encrypt lets five validations of a host fail in an hour. */
export const defaultRules: RenewalRules = { retryMs: 60_000, retryMsMax: 12 * 3_600_000 };

export interface CertificateOrder extends WantedCertificate {
  readonly reason: string;
}

export interface CertificateWarning {
  readonly name: string;
  readonly code: 'certificate-missing' | 'certificate-ends-soon' | 'certificate-ended';
  readonly text: string;
}

export interface RenewalPlan {
  /** The most urgent first. */
  readonly orders: readonly CertificateOrder[];
  /** Those not asked for now: until when at the earliest, and why. */
  readonly waiting: readonly { readonly name: string; readonly untilMs: number; readonly reason: string }[];
  readonly warnings: readonly CertificateWarning[];
  /** Held ones that nobody wants any more. */
  readonly unwanted: readonly string[];
  /** When the same question has another answer at the earliest though nothing else happens; Infinity: never. */
  readonly nextMs: number;
}

/** Of a lifetime: renewed when so much of it has passed, and warned of when so little is left. */
const renewAfter = 2 / 3;
const warnBelow = 1 / 4;

export function planRenewals(nowMs: number, wanted: readonly WantedCertificate[], held: ReadonlyMap<string, HeldCertificate>, attempts: ReadonlyMap<string, Attempts>, rules: RenewalRules = defaultRules): RenewalPlan {
  const orders: { readonly order: CertificateOrder; readonly endsMs: number }[] = [];
  const waiting: { name: string; untilMs: number; reason: string }[] = [];
  const warnings: CertificateWarning[] = [];
  let nextMs = Infinity;
  for (const want of wanted) {
    const have = held.get(want.name) ?? null;
    const tried = attempts.get(want.name) ?? null;
    const { reason, dueMs } = whyDue(want, have);
    const backOffMs = tried === null ? -Infinity : backOffUntil(tried, nowMs, longest(have, rules));
    const untilMs = Math.max(dueMs, backOffMs);
    if (nowMs >= untilMs) orders.push({ order: { ...want, reason }, endsMs: have?.notAfterMs ?? -Infinity });
    else waiting.push({ name: want.name, untilMs, reason: untilMs === dueMs ? reason : `the last attempt failed (${tried?.code ?? ''}), and the next is not due` });
    const warning = warningOf(want.name, have, tried, nowMs);
    if (warning !== null) warnings.push(warning);
    const turns = [untilMs, ...(have === null ? [] : [have.notAfterMs - lifetimeMs(have) * warnBelow, have.notAfterMs])];
    nextMs = Math.min(nextMs, ...turns.filter((turn) => turn > nowMs));
  }
  const names = new Set(wanted.map(({ name }) => name));
  return {
    orders: orders.toSorted((one, other) => one.endsMs - other.endsMs || (one.order.name < other.order.name ? -1 : 1)).map(({ order }) => order),
    waiting,
    warnings,
    unwanted: [...held.keys()].filter((name) => !names.has(name)),
    nextMs,
  };
}

const lifetimeMs = (have: HeldCertificate): number => have.notAfterMs - have.notBeforeMs;
const longest = (have: HeldCertificate | null, rules: RenewalRules): RenewalRules =>
  have === null ? rules : { ...rules, retryMsMax: Math.max(rules.retryMs, Math.min(rules.retryMsMax, lifetimeMs(have) / 12)) };

function whyDue(want: WantedCertificate, have: HeldCertificate | null): { reason: string; dueMs: number } {
  if (have === null) return { reason: 'there is none yet', dueMs: -Infinity };
  if (want.names.some((name) => !have.names.includes(name))) return { reason: `it lacks ${want.names.filter((name) => !have.names.includes(name)).join(', ')}`, dueMs: -Infinity };
  const dueMs = have.notBeforeMs + lifetimeMs(have) * renewAfter;
  return { reason: `two thirds of its lifetime have passed at ${new Date(dueMs).toISOString()}`, dueMs };
}

/** A clock that was set back must not make anybody wait for longer than the rules say. */
function backOffUntil({ failures, lastMs }: Attempts, nowMs: number, { retryMs, retryMsMax }: RenewalRules): number {
  return failures === 0 ? -Infinity : Math.min(lastMs, nowMs) + Math.min(retryMsMax, retryMs * 4 ** Math.min(failures - 1, 20));
}

function warningOf(name: string, have: HeldCertificate | null, tried: Attempts | null, nowMs: number): CertificateWarning | null {
  const why = tried === null || tried.failures === 0 ? '' : `; the last attempt failed: ${tried.text}`;
  if (have === null) return why === '' ? null : { name, code: 'certificate-missing', text: `there is no certificate for ${name} yet${why}` };
  const leftMs = have.notAfterMs - nowMs;
  const ends = new Date(have.notAfterMs).toISOString();
  if (leftMs <= 0) return { name, code: 'certificate-ended', text: `the certificate for ${name} has ended at ${ends}${why}` };
  if (leftMs < lifetimeMs(have) * warnBelow) return { name, code: 'certificate-ends-soon', text: `the certificate for ${name} ends at ${ends}${why}` };
  return null;
}
