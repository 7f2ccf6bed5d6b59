import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { Agent } from 'node:https';
import type * as acmeClient from 'acme-client';
import type { Client } from 'acme-client';
import { codeOf, Failure, messageOf } from '../kit/errors.ts';
import { dnsChallengeLabel } from '../kit/wire/certificates.ts';
import type { DnsChallenge, HttpChallenge } from '../kit/wire/certificates.ts';
import type { WantedCertificate } from './plan.ts';

/** What shows an authority that a name is ours. */
export type Proof = ({ readonly kind: 'dns' } & DnsChallenge) | ({ readonly kind: 'http' } & HttpChallenge);

/** Where proofs are shown. */
export interface Stage {
  /** Resolves when the authority would see all of them. Failure `challenge-unseen` when they do not appear in time. */
  show(proofs: readonly Proof[]): Promise<void>;
  /** Takes all of them away; may be repeated. */
  clear(): Promise<void>;
}

export interface IssuedPem {
  /** Key and chain. Never to be logged. */
  readonly pem: string;
  readonly certificateId: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/**
 * An ACME authority (RFC 8555). `order` fails with `authority-away` (it does not answer), `authority-refused` (it says no),
 * `challenge-unseen` (our own proof does not appear), `challenge-failed` (it looked and did not find it), or `authority-answer` (what
 * it gave does not fit what was asked for).
 */
export interface Authority {
  order(wanted: WantedCertificate, stage: Stage): Promise<IssuedPem>;
}

export interface AuthorityOptions {
  readonly directoryUrl: string;
  /** PEM of who vouches for its server; empty for the public ones. */
  readonly ca: string;
  readonly contact: readonly string[];
  readonly binding: { readonly kid: string; readonly hmacKey: string } | null;
  /** The account's key: kept, or made and then saved before it is used. */
  readonly accountKey: () => Promise<string | null>;
  readonly saveAccountKey: (key: string) => Promise<void>;
  readonly nowMs: () => number;
}

const requestMs = 30_000;
const answerBytesMax = 1024 * 1024;
/** Waiting for an authority to look, or to sign: about four minutes. */
const patience = { backoffMin: 250, backoffMax: 5_000, backoffAttempts: 50 };

export function openAuthority(options: AuthorityOptions): Authority {
  const { directoryUrl } = options;
  let client: Promise<Client> | null = null;
  return {
    async order(wanted, stage) {
      await reach(options);
      const acme = await import('acme-client');
      // After a failure the account is asked for anew: an authority may have lost it.
      client ??= signIn(acme, options);
      try {
        return await place(acme, await client, wanted, stage, options.nowMs());
      } catch (thrown) {
        client = null;
        throw failureOf(thrown, directoryUrl);
      }
    },
  };
}

/** The library says nothing useful of an authority that cannot be reached, so that is found out first. */
async function reach({ directoryUrl, ca }: AuthorityOptions): Promise<void> {
  const away = (why: string, cause?: unknown): Failure =>
    new Failure('authority-away', `the authority ${directoryUrl} does not answer: ${why}`, { cause, remedy: 'Certificates that are there stay in use; it is tried again by itself.' });
  let status: number;
  try {
    const answer = await fetch(directoryUrl, { signal: AbortSignal.timeout(requestMs), redirect: 'error', ...(ca === '' ? {} : { tls: { ca } }) });
    await answer.body?.cancel();
    status = answer.status;
  } catch (thrown) {
    throw away(messageOf(thrown), thrown);
  }
  if (status !== 200) throw away(`status ${status}`);
}

type Acme = typeof acmeClient;

async function signIn(acme: Acme, options: AuthorityOptions): Promise<Client> {
  const { directoryUrl, ca, contact, binding } = options;
  const { defaults } = acme.axios;
  Object.assign(defaults, { timeout: requestMs, maxContentLength: answerBytesMax, maxRedirects: 0, proxy: false });
  if (ca !== '') defaults.httpsAgent = new Agent({ ca });
  // It is tried again by the plan, which tells people.
  Object.assign((defaults as { acmeSettings?: object }).acmeSettings ?? {}, { retryMaxAttempts: 0 });
  let key = await options.accountKey();
  if (key === null) {
    key = (await acme.crypto.createPrivateEcdsaKey('P-256')).toString();
    await options.saveAccountKey(key);
  }
  const client = new acme.Client({ directoryUrl, accountKey: key, ...patience, ...(binding === null ? {} : { externalAccountBinding: binding }) });
  await client.createAccount({ termsOfServiceAgreed: true, contact: [...contact] });
  return client;
}

async function place(acme: Acme, client: Client, wanted: WantedCertificate, stage: Stage, nowMs: number): Promise<IssuedPem> {
  const order = await client.createOrder({ identifiers: wanted.names.map((value) => ({ type: 'dns', value })) });
  try {
    await prove(client, await client.getAuthorizations(order), wanted, stage);
  } finally {
    await stage.clear();
  }
  const [key, request] = await acme.crypto.createCsr({ altNames: [...wanted.names] }, await acme.crypto.createPrivateEcdsaKey('P-256'));
  const chain = await client.getCertificate(await client.finalizeOrder(order, request));
  return judge(wanted, key.toString(), chain, nowMs);
}

type Authorization = Awaited<ReturnType<Client['getAuthorizations']>>[number];

async function prove(client: Client, authorizations: readonly Authorization[], wanted: WantedCertificate, stage: Stage): Promise<void> {
  const open = [];
  // One that was proved a short while ago may still count.
  for (const authorization of authorizations.filter(({ status }) => status !== 'valid')) {
    const challenge = authorization.challenges.find(({ type }) => type === wanted.proof);
    const host = authorization.identifier.value;
    if (challenge === undefined) throw new Failure('authority-refused', `the authority offers no ${wanted.proof} for ${host}`);
    const answer = await client.getChallengeKeyAuthorization(challenge);
    const proof: Proof = wanted.proof === 'dns-01' ? { kind: 'dns', name: `${dnsChallengeLabel}.${host}`, value: answer } : { kind: 'http', host, token: challenge.token, answer };
    open.push({ challenge, host, proof });
  }
  if (open.length === 0) return;
  await stage.show(open.map(({ proof }) => proof));
  for (const { challenge, host } of open) {
    await client.completeChallenge(challenge);
    try {
      await client.waitForValidStatus(challenge);
    } catch (thrown) {
      if (isBroken(thrown)) throw thrown;
      throw new Failure('challenge-failed', `the authority looked at ${host} and did not find our proof: ${harmless(messageOf(thrown))}`, { cause: thrown });
    }
  }
}

/** What an authority gives is used only when it is what was asked for. */
function judge(wanted: WantedCertificate, key: string, chain: string, nowMs: number): IssuedPem {
  const unfit = (why: string): Failure => new Failure('authority-answer', `the authority gave a certificate for ${wanted.name} that does not fit: ${why}`);
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(chain);
  } catch (cause) {
    throw unfit(messageOf(cause));
  }
  if (!certificate.checkPrivateKey(createPrivateKey(key))) throw unfit('it is of another key');
  const covered = new Set((certificate.subjectAltName ?? '').split(', '));
  const missing = wanted.names.filter((name) => !covered.has(`DNS:${name}`));
  if (missing.length > 0) throw unfit(`it does not name ${missing.join(', ')}`);
  const notBeforeMs = Date.parse(certificate.validFrom);
  const notAfterMs = Date.parse(certificate.validTo);
  if (!(notAfterMs > nowMs)) throw unfit(`it ended at ${certificate.validTo}`);
  return { pem: `${key.trim()}\n${chain.trim()}\n`, certificateId: createHash('sha256').update(chain).digest('hex'), notBeforeMs, notAfterMs };
}

/** The library breaks in this way over a connection that failed; it gives an answer of the authority as an Error. */
const isBroken = (thrown: unknown): boolean => thrown instanceof TypeError || (codeOf(thrown) !== 'unexpected' && !(thrown instanceof Failure));

function failureOf(thrown: unknown, directoryUrl: string): Failure {
  if (thrown instanceof Failure) return thrown;
  if (isBroken(thrown)) return new Failure('authority-away', `the authority ${directoryUrl} broke off`, { cause: thrown, remedy: 'It is tried again by itself.' });
  return new Failure('authority-refused', `the authority refuses: ${harmless(messageOf(thrown))}`, { cause: thrown, remedy: 'Certificates that are there stay in use; it is tried again by itself.' });
}

const textMax = 500;
const harmless = (text: string): string => text.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, textMax);
