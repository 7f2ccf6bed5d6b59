import { Resolver } from 'node:dns/promises';
import { isIPv6 } from 'node:net';
import type { Bus } from '../host/bus.ts';
import { Failure } from '../kit/errors.ts';
import { dnsChallengeMessage, httpChallengeMessage, httpChallengePath } from '../kit/wire/certificates.ts';
import { buckets, challengeKey } from '../kit/wire/subjects.ts';
import { encodeMessage } from '../kit/wire/version.ts';
import type { Proof, Stage } from './authority.ts';

/** Proofs of one order at once: a zone has two, its own and that of what lies below. */
const places = 4;
const seenMs = 30_000;
/** An edgepoint that is down holds nobody up for longer. */
const edgepointMs = 5_000;
const lookMs = 100;

export interface StagePorts {
  readonly bus: Pick<Bus, 'putKv' | 'deleteKv' | 'getKv'>;
  /** Of the zone, as ADDRESS or ADDRESS:PORT. */
  readonly nameservers: readonly string[];
  /** Addresses of the edgepoints, any family. */
  readonly edgepoints: () => readonly string[];
  readonly sleepMs: (ms: number) => Promise<void>;
}

/** Shows proofs by the bus: the global dispatcher answers with TXT records, every edgepoint with the HTTP answer. Orders come one after the other. */
export function openStage({ bus, nameservers, edgepoints, sleepMs }: StagePorts): Stage {
  return {
    async show(proofs) {
      if (proofs.length > places) throw new Failure('challenge-unseen', `an order wants ${proofs.length} proofs at once, and ${places} can be shown`);
      for (const [place, proof] of proofs.entries()) await bus.putKv(buckets.challenges, challengeKey(proof.kind, place), textOf(proof));
      for (const proof of proofs) {
        if (proof.kind === 'dns') await Promise.all(nameservers.map((server) => untilAnswered(server, proof, sleepMs)));
        else await untilServed(edgepoints(), proof, sleepMs);
      }
    },
    async clear() {
      for (const kind of ['dns', 'http'] as const) {
        for (let place = 0; place < places; place += 1) {
          const key = challengeKey(kind, place);
          if ((await bus.getKv(buckets.challenges, key)) !== null) await bus.deleteKv(buckets.challenges, key);
        }
      }
    },
  };
}

function textOf(proof: Proof): string {
  if (proof.kind === 'dns') return encodeMessage(dnsChallengeMessage, { name: proof.name, value: proof.value });
  return encodeMessage(httpChallengeMessage, { host: proof.host, token: proof.token, answer: proof.answer });
}

async function untilAnswered(server: string, proof: Proof & { kind: 'dns' }, sleepMs: (ms: number) => Promise<void>): Promise<void> {
  const resolver = new Resolver({ timeout: 1_000, tries: 1 });
  resolver.setServers([isIPv6(server) ? `[${server}]` : server]);
  let last = 'no answer';
  for (const fromMs = performance.now(); performance.now() - fromMs < seenMs; await sleepMs(lookMs)) {
    try {
      const values = (await resolver.resolveTxt(proof.name)).map((parts) => parts.join(''));
      if (values.includes(proof.value)) return;
      last = 'another record';
    } catch (thrown) {
      last = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'no answer';
    }
  }
  throw new Failure('challenge-unseen', `the name server ${server} does not answer with the TXT record of ${proof.name} after ${seenMs / 1000} s: ${last}`, {
    remedy: 'Does the global dispatcher run, and is it on the bus?',
  });
}

/** At least one must answer, and the others are given time. */
async function untilServed(addresses: readonly string[], proof: Proof & { kind: 'http' }, sleepMs: (ms: number) => Promise<void>): Promise<void> {
  const asked = await Promise.all(addresses.map((address) => isServed(address, proof, sleepMs)));
  if (asked.some((served) => served)) return;
  throw new Failure('challenge-unseen', `none of ${addresses.length} edgepoints answers the challenge for ${proof.host}`, { remedy: 'Are they up, and on the bus?' });
}

async function isServed(address: string, proof: Proof & { kind: 'http' }, sleepMs: (ms: number) => Promise<void>): Promise<boolean> {
  const url = `http://${isIPv6(address) ? `[${address}]` : address}${httpChallengePath}${proof.token}`;
  for (const fromMs = performance.now(); performance.now() - fromMs < edgepointMs; await sleepMs(lookMs)) {
    try {
      const answer = await fetch(url, { headers: { host: proof.host }, redirect: 'manual', signal: AbortSignal.timeout(1_000) });
      if (answer.status === 200 && (await answer.text()) === proof.answer) return true;
    } catch {
      // It is down, or about to come up.
    }
  }
  return false;
}
