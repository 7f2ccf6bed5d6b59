import { siteKey } from '../../kit/ids.ts';
import type { AppEvent } from '../../kit/wire/event.ts';

/** What happened at one edgepoint, for a plot. Times are wall clock, milliseconds since 1970. */
export interface Lane {
  /** `<zone>/<edgepoint>` */
  readonly name: string;
  /** Instances that hold memory, from that moment on; the first is the beginning of the span. */
  readonly awake: readonly { readonly wallMs: number; readonly count: number }[];
  readonly marks: readonly Mark[];
}

export interface Mark {
  readonly wallMs: number;
  readonly kind: 'wake' | 'clone' | 'deploy' | 'fault';
  readonly text: string;
  /** Of a wake or a clone: how long it took. */
  readonly tookMs: number | null;
}

export interface Timeline {
  readonly fromWallMs: number;
  readonly toWallMs: number;
  readonly lanes: readonly Lane[];
  /** Of wakes and clones in the span. */
  readonly wakes: { readonly count: number; readonly p50Ms: number | null; readonly p95Ms: number | null };
  /** The newest first. */
  readonly happened: readonly AppEvent[];
}

/** So many events are listed. */
const listedMax = 50;

/** In minutes; the last is the longest that is shown. */
const spans = [10, 30, 60];
const minuteMs = 60_000;

/** The shortest of the spans in which everything of the longest has happened: what is new is not a speck at the end of an empty hour. */
export function spanOf(events: readonly AppEvent[], nowWallMs: number): number {
  const all = spans.map((minutes) => minutes * minuteMs);
  const longest = all.at(-1) ?? minuteMs;
  const ages = events.map(({ wallMs }) => nowWallMs - wallMs).filter((age) => age < longest);
  return all.find((span) => ages.every((age) => age < span)) ?? longest;
}

/**
 * The last `spanMs` of an app. How many instances were awake is counted back from how many are now (`sites`), for events older than the
 * stream keeps are not told.
 */
export function timelineOf(events: readonly AppEvent[], about: { readonly nowWallMs: number; readonly spanMs: number; readonly sites: readonly { readonly zone: string; readonly edgepoint: string; readonly awake: number }[] }): Timeline {
  const { nowWallMs, spanMs } = about;
  const fromWallMs = nowWallMs - spanMs;
  const within = events.filter(({ wallMs }) => wallMs > fromWallMs && wallMs <= nowWallMs).toSorted((a, b) => a.wallMs - b.wallMs);
  const lanes = about.sites.map((site) => {
    const own = within.filter((event) => siteKey(event) === siteKey(site));
    return { name: `${site.zone}/${site.edgepoint}`, awake: awakeOver(own, { fromWallMs, now: site.awake }), marks: own.flatMap(markOf) };
  });
  const tookMs = lanes.flatMap(({ marks }) => marks.flatMap((mark) => (mark.tookMs === null ? [] : [mark.tookMs]))).toSorted((a, b) => a - b);
  const part = (share: number): number | null => tookMs[Math.max(0, Math.ceil(share * tookMs.length) - 1)] ?? null;
  return { fromWallMs, toWallMs: nowWallMs, lanes, wakes: { count: tookMs.length, p50Ms: part(0.5), p95Ms: part(0.95) }, happened: within.toReversed().slice(0, listedMax) };
}

function awakeOver(events: readonly AppEvent[], { fromWallMs, now }: { fromWallMs: number; now: number }): Lane['awake'] {
  let count = now;
  const steps: { wallMs: number; count: number }[] = [];
  for (const event of events.toReversed()) {
    const change = changeOf(event);
    if (change === 0) continue;
    steps.push({ wallMs: event.wallMs, count });
    count = Math.max(0, count - change);
  }
  return [{ wallMs: fromWallMs, count }, ...steps.toReversed()];
}

/** What an event says of the number of instances that hold memory. A freeze and a thaw change nothing: a frozen one holds its memory. */
function changeOf({ kind, code, figures }: AppEvent): -1 | 0 | 1 {
  if (kind === 'sleep') return figures['givenBackBytes'] === undefined ? -1 : 0;
  if (kind === 'wake' || kind === 'scale') return figures['warm'] === undefined ? 0 : 1;
  return kind === 'fault' && code === 'app-exited' ? -1 : 0;
}

function markOf({ kind, stage, wallMs, text, tookMs }: AppEvent): Mark[] {
  if (kind === 'wake') return [{ wallMs, kind: 'wake', text, tookMs }];
  if (kind === 'scale') return [{ wallMs, kind: 'clone', text, tookMs }];
  if (kind === 'fault' || (kind === 'deploy' && stage === 'failed')) return [{ wallMs, kind: 'fault', text, tookMs: null }];
  return kind === 'deploy' && stage === 'ready' ? [{ wallMs, kind: 'deploy', text, tookMs: null }] : [];
}
