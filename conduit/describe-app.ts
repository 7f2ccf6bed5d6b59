import { canaryOf, siteKey } from '../kit/ids.ts';
import type { Owner, Site } from '../kit/ids.ts';
import type { IssuedCertificate } from '../kit/wire/certificates.ts';
import type { AppState, EdgepointState } from '../kit/wire/edgepoint-state.ts';
import type { AppAnswer, AppAtSite } from './api/answers.ts';
import type { StoredApp, StoredRelease } from './store/apps.ts';
import type { StoredCanary } from './store/canaries.ts';

export interface SeenEdgepoint {
  readonly state: EdgepointState;
  /** False when its heartbeats have stopped. */
  readonly reachable: boolean;
  /** Null when it does not have that app. */
  app(owner: Owner): AppState | null;
}

const stateMeanings = {
  template: 'every wake begins from the release’s template; memory and private disk end with an instance',
  keep: 'one instance; memory and private disk continue where they were',
} as const;

/** What is told of an app, from the database and from what its edgepoints last said. */
export function describeApp(input: {
  readonly app: StoredApp;
  readonly release: StoredRelease;
  readonly hosting: readonly Site[];
  readonly seen: ReadonlyMap<string, SeenEdgepoint>;
  readonly zoneName: string;
  /** Of the zone; null when nobody has said anything of one. */
  readonly certificate: IssuedCertificate | null;
  readonly nowWallMs: number;
  readonly canary: StoredCanary | null;
}): AppAnswer {
  const { app, release, hosting, seen, zoneName, certificate, nowWallMs, canary } = input;
  const atSites = (owner: Owner): AppAtSite[] =>
    hosting.map((site) => {
      const edgepoint = seen.get(siteKey(site));
      const state = edgepoint?.app(owner) ?? null;
      return { ...site, known: state !== null, reachable: edgepoint?.reachable ?? false, state };
    });
  const sites = atSites(app.owner);
  const hosts = hostsOf(app.owner.app, zoneName);
  return {
    ...app.owner,
    release: app.release,
    deployId: release.deployId,
    hosts,
    url: urlOf(hosts, certificate, nowWallMs),
    certificate: certificate === null ? null : { untilWallMs: certificate.notAfterMs, code: certificate.code, text: certificate.text },
    state: release.manifest.state,
    stateMeaning: stateMeanings[release.manifest.state],
    offering: release.manifest.offering,
    artefactBytes: release.artefactBytes,
    volumes: release.manifest.volume.map(({ name }) => name),
    createdWallMs: app.createdWallMs,
    deployedWallMs: release.createdWallMs,
    placementReason: app.placementReason,
    published: app.generation === app.publishedGeneration,
    condition: conditionOf(app.release, sites),
    sites,
    canary: canary === null ? null : { ...canary, sites: atSites(canaryOf(app.owner)) },
  };
}

/** Where an app of these hosts is: https while the certificate of its zone is good. */
export const urlOf = (hosts: readonly string[], certificate: IssuedCertificate | null, nowWallMs: number): string =>
  `${(certificate?.notAfterMs ?? 0) > nowWallMs ? 'https' : 'http'}://${hosts[0] ?? ''}/`;

export const hostsOf = (app: string, zoneName: string): string[] => [`${app}.${zoneName}`];

/** Instances that hold memory now. */
export function awakeCount(instances: Readonly<Record<string, number>>): number {
  return ['booting', 'warm', 'frozen', 'restoring', 'draining'].reduce((sum, mode) => sum + (instances[mode] ?? 0), 0);
}

function conditionOf(release: number, sites: readonly AppAtSite[]): AppAnswer['condition'] {
  const current = sites.map((site) => (site.state && site.state.release === release ? site.state : null));
  const failed = current.filter((state) => state?.status === 'failed').length;
  if (failed > 0) return failed === sites.length ? 'failed' : 'partly-failed';
  if (current.some((state) => state?.status !== 'ready') || current.length === 0) return 'deploying';
  return current.some((state) => state && awakeCount(state.instances) > 0) ? 'awake' : 'asleep';
}
