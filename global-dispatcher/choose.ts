import type { AppState, EdgepointState } from '../kit/wire/edgepoint-state.ts';

/** Degrees, north and east positive. */
export interface Location {
  readonly latitude: number;
  readonly longitude: number;
}

/** `silent`: three heartbeats missed, or not yet trusted again. */
export type Liveness = 'alive' | 'silent';

/** What an edgepoint's address and place in the order of answers depend on. */
export type EdgepointFacts = Pick<EdgepointState, 'ipv4' | 'ipv6' | 'latitude' | 'longitude' | 'load' | 'capacityBytes' | 'accepting'>;

export interface Hosting {
  readonly site: string;
  /** What the edgepoint last said of itself; null when it has said nothing yet. */
  readonly state: EdgepointFacts | null;
  /** What it last said of the app; null when it does not know it. */
  readonly app: Pick<AppState, 'status' | 'reason' | 'own'> | null;
  readonly liveness: Liveness;
}

export interface ChooseRequest {
  readonly family: 4 | 6;
  /** Of the end user; null when unknown, then users are spread by `spreadKey` and each key keeps its edgepoint. */
  readonly location: Location | null;
  readonly spreadKey: string;
  /** The edgepoints that the name table says host the app. */
  readonly hosting: readonly Hosting[];
}

/** Load up to `freeLoad` costs nothing; from there to 1 it costs up to `fullLoadKm` more kilometres. */
export interface ChooseWeights {
  readonly freeLoad: number;
  readonly fullLoadKm: number;
}
export const defaultWeights: ChooseWeights = { freeLoad: 0.6, fullLoadKm: 4000 };

/**
 * How fit an edgepoint is, best first; worse ones are answered only when no better is left, as any address is better than none:
 * `ready`; `preparing` (alive and accepting, the app not ready there yet); `draining` (alive, accepts no new users);
 * `silent` (heartbeats missed); `failed` (alive, but the app cannot run there).
 */
export const fitnesses = ['ready', 'preparing', 'draining', 'silent', 'failed'] as const;
export type Fitness = (typeof fitnesses)[number];

export interface Candidate {
  readonly site: string;
  readonly fitness: Fitness;
  readonly address: string;
  readonly distanceKm: number | null;
  readonly loadKm: number;
  /** What decides within a fitness: kilometres when the place is known, else the place in the spread (0 to infinity); less is better. */
  readonly cost: number;
  readonly reason: string;
}

export interface Choice {
  /** Those of the best fitness present, best first. */
  readonly ordered: readonly Candidate[];
  /** Those passed over, with the reason. */
  readonly passedOver: readonly { readonly site: string; readonly reason: string }[];
  /** Whether another place could have got another order: false with fewer than two candidates. */
  readonly dependsOnLocation: boolean;
}

/** Orders the edgepoints that host an app for one end user. */
export function chooseEdgepoints(request: ChooseRequest, weights: ChooseWeights = defaultWeights): Choice {
  const candidates: Candidate[] = [];
  const passedOver: { site: string; reason: string }[] = [];
  for (const hosting of request.hosting) {
    const weighed = weigh(hosting, request, weights);
    if (typeof weighed === 'string') passedOver.push({ site: hosting.site, reason: weighed });
    else candidates.push(weighed);
  }
  const best = fitnesses.find((fitness) => candidates.some((candidate) => candidate.fitness === fitness));
  const ordered = candidates
    .filter((candidate) => candidate.fitness === best)
    .sort((one, other) => one.cost - other.cost || spread(request.spreadKey, one.site) - spread(request.spreadKey, other.site) || (one.site < other.site ? -1 : 1));
  for (const candidate of candidates) {
    if (candidate.fitness !== best) passedOver.push({ site: candidate.site, reason: `${candidate.reason}; another is ${best}` });
  }
  return { ordered, passedOver, dependsOnLocation: ordered.length > 1 };
}

function weigh(hosting: Hosting, request: ChooseRequest, weights: ChooseWeights): Candidate | string {
  const { state, site } = hosting;
  if (state === null) return 'it has not reported its state, so its address is unknown';
  const own = hosting.app?.own;
  // Its own address leads to it by more ports, and by the shared ones too.
  const address = request.family === 4 ? own?.ipv4 || state.ipv4 : own?.ipv6 || state.ipv6;
  if (address === '') return `it has no IPv${request.family} address`;
  const { fitness, why } = judgeFitness(hosting, state);
  const loadKm = loadPenaltyKm(state.load, weights);
  if (request.location === null) {
    const cost = spread(request.spreadKey, site) / Math.max(1e-6, state.capacityBytes * (1 - loadKm / (weights.fullLoadKm * 1.25 || 1)));
    return { site, fitness, address, distanceKm: null, loadKm, cost, reason: `${why}; the user's place is unknown, so users are spread by capacity and load` };
  }
  const distanceKm = greatCircleKm(request.location, state);
  const reason = `${why}; ${Math.round(distanceKm)} km away${loadKm > 0 ? `, and load ${state.load.toFixed(2)} counts as ${Math.round(loadKm)} km more` : ''}`;
  return { site, fitness, address, distanceKm, loadKm, cost: distanceKm + loadKm, reason };
}

function judgeFitness({ app: hosted, liveness }: Hosting, state: EdgepointFacts): { fitness: Fitness; why: string } {
  if (liveness === 'silent') return { fitness: 'silent', why: 'its heartbeats are missing' };
  if (hosted?.status === 'failed') return { fitness: 'failed', why: `the app failed there${hosted.reason === '' ? '' : ` (${hosted.reason})`}` };
  if (!state.accepting) return { fitness: 'draining', why: 'it accepts no new users' };
  if (hosted?.status === 'ready') return { fitness: 'ready', why: 'alive and ready' };
  return { fitness: 'preparing', why: 'alive, but the app is not ready there yet' };
}

export function loadPenaltyKm(load: number, weights: ChooseWeights): number {
  const over = Math.min(1, Math.max(0, (load - weights.freeLoad) / (1 - weights.freeLoad)));
  return over * weights.fullLoadKm;
}

const earthRadiusKm = 6371;
const radians = (degrees: number): number => (degrees * Math.PI) / 180;

/** The haversine formula; exact to about 0.5 %, as the earth is no sphere. */
export function greatCircleKm(from: Location, to: Location): number {
  const halfLatitude = Math.sin(radians(to.latitude - from.latitude) / 2);
  const halfLongitude = Math.sin(radians(to.longitude - from.longitude) / 2);
  const squared = halfLatitude ** 2 + Math.cos(radians(from.latitude)) * Math.cos(radians(to.latitude)) * halfLongitude ** 2;
  return 2 * earthRadiusKm * Math.asin(Math.min(1, Math.sqrt(squared)));
}

/**
 * Rendezvous hashing (Thaler and Ravishankar 1996): an exponential variate per (user, site), to be divided by the site's weight.
 * The least wins, so a site that leaves moves only its own users.
 */
function spread(spreadKey: string, site: string): number {
  let hash = 0x811c9dc5;
  const text = `${spreadKey}|${site}`;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 16_777_619);
  // FNV-1a's last bytes barely reach the upper bits; murmur3's finisher spreads them.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  hash ^= hash >>> 16;
  return -Math.log(((hash >>> 0) + 0.5) / 2 ** 32);
}
