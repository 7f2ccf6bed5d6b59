import { open, readdir, rm } from 'node:fs/promises';
import type { Bus } from '../../host/bus.ts';
import type { Clock } from '../../kit/clock.ts';
import { codeOf, Failure, messageOf } from '../../kit/errors.ts';
import { ownerKey, siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { nsPerMs } from '../../kit/units.ts';
import { volumeBucket, volumesSubject } from '../../kit/wire/subjects.ts';
import { volumesAskMessage, volumesBeatMs, volumesLineMessage } from '../../kit/wire/volumes.ts';
import type { VolumesAsk, VolumesLine } from '../../kit/wire/volumes.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import type { Slots } from '../deploy/slots.ts';
import type { VolumeCalls } from '../model/volumes.ts';
import { holdApp } from '../resources/hold.ts';
import type { ResourceManager } from '../resources/run.ts';
import { Volumes } from '../volumes/run.ts';
import type { VolumeLimits, VolumeRecords } from '../volumes/ports.ts';
import { sleepMs } from './timers.ts';

export interface VolumeLink {
  readonly volumes: Volumes;
  /** Until the bus is closed. */
  begin(): void;
}

export interface VolumeLinkOptions {
  readonly bus: Bus;
  readonly site: Site;
  readonly clock: Clock;
  readonly calls: VolumeCalls;
  readonly records: VolumeRecords;
  readonly limits: VolumeLimits;
  readonly downloads: string;
  readonly manager: ResourceManager;
  /** In which releases are prepared: nothing of an app is prepared while it is held. */
  preparations(): Slots;
  warn(text: string, fields: Record<string, unknown>): void;
}

const fileEnd = '.volume';
/** Asks that are answered at once: lists, mostly. */
const asksMax = 16;

/** What the conduit asks about volumes, over the bus, and the room that does it. */
export function openVolumeLink(options: VolumeLinkOptions): VolumeLink {
  const { bus, site, clock, downloads, manager, warn } = options;
  const volumes = new Volumes({
    site,
    calls: options.calls,
    records: options.records,
    limits: options.limits,
    objects: (of) => bus.blobs(volumeBucket(of)),
    serving: (owner) => manager.state.apps.get(ownerKey(owner))?.serving?.order ?? null,
    hosts: (owner) => manager.state.apps.has(ownerKey(owner)),
    hold: (owner, reason, work) => options.preparations().use(() => holdApp(manager, { owner, reason }, sleepMs, work)),
    withFile: (name, work) => withFile(`${downloads}/${name}${fileEnd}`, work),
    nowMs: () => clock.bootNs() / nsPerMs,
    wallMs: clock.wallMs,
    warn,
  });
  let asks = 0;
  const answer = async (ask: string, text: string): Promise<void> => {
    const tell = (line: VolumesLine): void => void bus.publish(volumesSubject(site, 'from', ask), encodeMessage(volumesLineMessage, { line }));
    const parsed = parseMessage(volumesAskMessage, text);
    if (!parsed.ok) return tell({ type: 'failed', code: 'ask-invalid', text: parsed.reason, remedy: '' });
    if (asks >= asksMax) return tell({ type: 'failed', code: 'busy', text: 'the edgepoint is asked about too many volumes at once', remedy: 'Try again in a moment.' });
    asks += 1;
    const beats = setInterval(() => tell({ type: 'beat' }), volumesBeatMs);
    try {
      await fulfil(parsed.value, tell);
    } catch (failure) {
      if (!(failure instanceof Failure)) warn('a work on a volume has failed', { ...parsed.value, failure });
      tell({ type: 'failed', code: codeOf(failure).slice(0, 64), text: messageOf(failure).slice(0, 2000), remedy: failure instanceof Failure ? failure.remedy.slice(0, 1000) : '' });
    } finally {
      clearInterval(beats);
      asks -= 1;
    }
  };
  const fulfil = async (ask: VolumesAsk, tell: (line: VolumesLine) => void): Promise<void> => {
    const { operation, volume, snapshot: sequence, keep, provider, scope, app } = ask;
    const owner = { provider, scope, app };
    const about = { owner, volume };
    const progress = (text: string): void => tell({ type: 'progress', text });
    if (operation === 'list') {
      tell({ type: 'volumes', ...site, volumes: [...(await volumes.list(owner))] });
      return tell({ type: 'done', text: '', figures: {} });
    }
    const work = operation === 'snapshot' ? volumes.snapshot(about, keep, progress) : operation === 'restore' ? volumes.restore(about, { sequence, from: siteOf(ask.from, site) }, progress) : volumes.remove(about, sequence);
    const { text, figures } = await work;
    tell({ type: 'done', text, figures });
  };
  const prefix = volumesSubject(site, 'to', '');
  return {
    volumes,
    begin: () => {
      void sweepFiles(downloads, warn);
      bus.onUp(() => void volumes.sweep().catch((failure: unknown) => warn('snapshots of volumes could not be swept', { failure })));
      bus.subscribe(volumesSubject(site, 'to', '*'), (subject, text) => void answer(subject.slice(prefix.length), text));
    },
  };
}

/** Of this zone, for no other may be read. */
function siteOf(text: string, here: Site): Site {
  if (text === '') return here;
  const [zone = '', edgepoint = ''] = text.split('.');
  if (zone === here.zone && edgepoint !== '') return { zone, edgepoint };
  throw new Failure('edgepoint-unknown', `${text} is no edgepoint of the zone ${siteKey(here).split('.')[0] ?? ''}`);
}

async function withFile<T>(path: string, work: (path: string, append: (bytes: Uint8Array) => Promise<void>) => Promise<T>): Promise<T> {
  await rm(path, { force: true });
  const file = await open(path, 'wx', 0o600);
  try {
    return await work(path, async (bytes) => void (await file.write(bytes)));
  } finally {
    await file.close();
    await rm(path, { force: true });
  }
}

/** What a killed head had fetched. */
async function sweepFiles(downloads: string, warn: VolumeLinkOptions['warn']): Promise<void> {
  try {
    for (const name of await readdir(downloads)) if (name.endsWith(fileEnd)) await rm(`${downloads}/${name}`, { force: true });
  } catch (failure) {
    warn('what was fetched of volumes cannot be removed', { failure });
  }
}
