import { Failure } from '../../kit/errors.ts';
import { siteKey } from '../../kit/ids.ts';
import type { DomainAnswer, DomainLine } from '../api/answers.ts';
import { whenGone } from '../api/lines.ts';
import type { LineWriter } from '../api/lines.ts';
import { ownApp } from '../deploy.ts';
import { hostsOf } from '../describe-app.ts';
import type { Edgepoints } from '../edgepoints.ts';
import type { Speaker } from '../store/accounts.ts';
import type { AppStore, StoredApp } from '../store/apps.ts';
import type { DomainStore, StoredDomain } from '../store/domains.ts';
import type { Issued } from './issued.ts';
import { judgeRecords, recordsFor, whyNoDomain } from './judge.ts';
import type { DomainTarget, DomainVerdict } from './judge.ts';
import { canonical } from './look-up.ts';
import type { LookUp } from './look-up.ts';

export interface DomainPorts {
  readonly apps: AppStore;
  readonly domains: DomainStore;
  readonly edgepoints: Edgepoints;
  readonly issued: Issued;
  readonly lookUp: LookUp;
  readonly zoneName: string;
  readonly domainsPerProvider: number;
  readonly wallMs: () => number;
  /** Called when the database holds something the bus has not been told. */
  readonly onChange: () => void;
}

export interface Domains {
  /** Claims a domain for an app; the returned function writes what is to be done and what is seen, until its certificate is there. */
  add(speaker: Speaker, app: string, domain: string): Promise<(writer: LineWriter) => Promise<void>>;
  list(speaker: Speaker): Promise<readonly DomainAnswer[]>;
  remove(speaker: Speaker, domain: string): Promise<void>;
}

/** A record is looked for so often while somebody watches. */
const lookMs = 2_000;
/** Records may take long; whoever watches may come again. */
const watchMs = 30 * 60_000;
/** Whoever watches costs a question to the resolver at each look. */
const watchersMax = 200;
/** Where no certifier runs nobody will say anything of a certificate. */
const silentMs = 15_000;

export function openDomains(ports: DomainPorts): Domains {
  const { apps, domains, zoneName } = ports;
  let watchers = 0;
  return {
    async add(speaker, name, domain) {
      const why = whyNoDomain(domain, zoneName);
      if (why !== '') throw new Failure('domain-invalid', `${JSON.stringify(domain.slice(0, 253))} cannot be added: ${why}`);
      const app = await ownApp(apps, speaker, name);
      const known = await domains.find(speaker.provider, domain);
      if (known === null && (await domains.list(speaker.provider)).length >= ports.domainsPerProvider) {
        throw new Failure('too-many-domains', `you have ${ports.domainsPerProvider} domains already`, { remedy: 'Remove one that is not needed: `conduit domains list`.' });
      }
      await domains.claim(app, domain, ports.wallMs());
      ports.onChange();
      if (watchers >= watchersMax) throw new Failure('busy', 'too many domains are watched already', { remedy: 'It is added; the same command watches it later.' });
      return async (writer) => {
        watchers += 1;
        await watch(ports, app, domain, writer).finally(() => (watchers -= 1));
      };
    },
    async list(speaker) {
      return Promise.all((await domains.list(speaker.provider)).map(async (domain) => answerOf(ports, domain, await targetOf(ports, await ownApp(apps, speaker, domain.app), domain.domain))));
    },
    async remove(speaker, domain) {
      const known = await domains.find(speaker.provider, domain);
      if (known === null) throw new Failure('domain-unknown', `you have no domain ${JSON.stringify(domain.slice(0, 253))}`, { remedy: '`conduit domains list` shows yours.' });
      await domains.remove(known);
      ports.onChange();
    },
  };
}

async function targetOf({ apps, edgepoints, zoneName }: DomainPorts, app: StoredApp, domain: string): Promise<DomainTarget> {
  const { hosting } = await apps.placements(app.id);
  const seen = edgepoints.seen();
  const addresses = hosting.flatMap((site) => {
    const state = seen.get(siteKey(site))?.state;
    return state === undefined ? [] : [state.ipv4, state.ipv6].filter((address) => address !== '').map(canonical);
  });
  return { domain, host: hostsOf(app.owner.app, zoneName)[0] ?? '', addresses };
}

function answerOf({ issued, wallMs }: Pick<DomainPorts, 'issued' | 'wallMs'>, domain: StoredDomain, target: DomainTarget): DomainAnswer {
  const certificate = domain.provedWallMs === null ? null : issued.of(domain.domain);
  const isThere = (certificate?.notAfterMs ?? 0) > wallMs();
  const { cname, apex } = recordsFor(target);
  return {
    domain: domain.domain,
    app: domain.app,
    condition: domain.provedWallMs === null ? 'waiting' : isThere ? 'active' : 'proving',
    records: [...cname],
    apexRecords: [...apex],
    certificateUntilWallMs: certificate?.notAfterMs ?? null,
    code: certificate?.code ?? '',
    text: certificate?.text ?? '',
  };
}

/** One look after the other, until the record is there; then until the certificate is. Each thing is said when it changes. */
async function watch(ports: DomainPorts, app: StoredApp, domain: string, writer: LineWriter): Promise<void> {
  const { domains, issued } = ports;
  const { provider } = app.owner;
  let last = '';
  const say = (line: DomainLine): void => {
    const text = JSON.stringify(line);
    if (text !== last) writer.send(line);
    last = text;
  };
  const untilMs = performance.now() + watchMs;
  let provedMs = 0;
  while (!writer.gone.aborted) {
    const claim = await domains.find(provider, domain);
    if (claim === null || claim.appId !== app.id) return end(writer, 'failed', 'domain-removed', `${domain} was removed, or proved by somebody else`);
    const target = await targetOf(ports, app, domain);
    const answer = answerOf(ports, claim, target);
    say({ type: 'domain', ...answer });
    if (claim.provedWallMs === null) await look(ports, app, target, say);
    else if (answer.condition === 'active') return end(writer, 'active', '', `https://${domain}/ leads to ${app.owner.app}`);
    else {
      if (provedMs === 0) provedMs = performance.now();
      if (issued.of(domain) === null && performance.now() - provedMs > silentMs) return end(writer, 'proved', 'no-certifier', `http://${domain}/ leads to ${app.owner.app}; nobody says anything of a certificate`);
    }
    if (performance.now() > untilMs) return end(writer, 'timeout', 'domain-watch-timeout', 'it is watched no longer; the same command goes on');
    await nextLook(ports, writer);
  }
}

async function look(ports: DomainPorts, app: StoredApp, target: DomainTarget, say: (line: DomainLine) => void): Promise<void> {
  const verdict: DomainVerdict = judgeRecords(target, await ports.lookUp(target.domain));
  if (!verdict.ok) return say({ type: 'look', code: verdict.code, text: verdict.text });
  await ports.domains.prove(app, target.domain, ports.wallMs());
  ports.onChange();
  say({ type: 'look', code: '', text: verdict.by === 'cname' ? `the CNAME of ${target.domain} is there` : `the addresses of ${target.domain} and its TXT record are there` });
}

function end(writer: LineWriter, outcome: Extract<DomainLine, { type: 'end' }>['outcome'], code: string, text: string): void {
  const line: DomainLine = { type: 'end', outcome, code, text };
  writer.send(line);
  writer.end();
}

/** After a while, at once when something of a certificate is said, or when nobody watches any more. */
function nextLook({ issued }: DomainPorts, writer: LineWriter): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      stop();
      resolve();
    };
    const timer = setTimeout(done, lookMs);
    const stop = issued.onChange(done);
    whenGone(writer, done);
  });
}
