import { Readable } from 'node:stream';
import type { Bus } from '../host/bus.ts';
import type { Log } from '../host/log.ts';
import { Failure, codeOf, messageOf } from '../kit/errors.ts';
import { defaultScope, newId, siteKey } from '../kit/ids.ts';
import type { Owner, RandomBytes, Site } from '../kit/ids.ts';
import { buildPlace, checkOrderMessage, checkUidSlots, checksPerProviderMax } from '../kit/wire/check.ts';
import type { BuildOrder } from '../kit/wire/check.ts';
import { artefactBucket, buckets, checkKey, checkObject } from '../kit/wire/subjects.ts';
import { buildSchema } from '../kit/wire/manifest.ts';
import { encodeMessage } from '../kit/wire/version.ts';
import type { CheckAnswer } from './api/answers.ts';
import { noConfiguration } from './configuration/change.ts';
import { configurationFor } from './configuration/told.ts';
import type { Vault } from './configuration/vault.ts';
import { configurationOf, ownedOrFree, receiveApp } from './deploy.ts';
import type { UploadRequest } from './deploy.ts';
import { hostsOf } from './describe-app.ts';
import type { Edgepoints } from './edgepoints.ts';
import { chooseCheckSite, placeApp } from './placement.ts';
import type { AppStore } from './store/apps.ts';
import type { CheckStore, StoredCheck } from './store/checks.ts';
import { readUpload } from './uploads.ts';
import type { Uploads } from './uploads.ts';

/**
 * Checks: an uploaded app is prepared by one edgepoint as a deploy would, and forgotten. What a check puts on the bus (an object and a
 * key) stands in the database before it is made and until it is gone, so a conduit that is killed takes it away at its next start.
 */
export interface Checks {
  /**
   * Takes an upload in and has an edgepoint prepare it, or, with `build`, build it. Whoever calls this calls `end` afterwards, whatever
   * happens.
   */
  begin(request: UploadRequest, build?: BuildRequest): Promise<StoredCheck & { readonly answer: CheckAnswer }>;
  /** Nobody waits for it any more: the edgepoint breaks it off and what lies on the bus goes, now or as soon as the bus is there. */
  end(check: StoredCheck): Promise<void>;
  /** Ends every check that an earlier conduit left. */
  recover(): Promise<void>;
  stop(): void;
}

/** Which program installs what the folder depends on, where its manifest does not say. */
export interface BuildRequest {
  readonly install: BuildOrder['install'];
}

export interface ChecksPorts {
  readonly bus: Bus;
  readonly apps: AppStore;
  readonly store: CheckStore;
  readonly uploads: Uploads;
  readonly vault: Vault;
  readonly edgepoints: Edgepoints;
  readonly sites: readonly Site[];
  readonly zoneName: string;
  readonly randomBytes: RandomBytes;
  readonly log: Log;
  /** Of all providers together. */
  readonly checksMax: number;
}

const retryMs = 1000;
const defaultBuild = buildSchema.parse({});

export function openChecks(ports: ChecksPorts): Checks {
  const { bus, store, uploads, log } = ports;
  /** Places taken, by provider; held from before the upload until everything of the check is gone. */
  const taken = new Map<string, Set<number>>();
  /** Checks that nobody waits for and that are not gone yet. */
  const ending = new Map<string, StoredCheck>();
  const beingEnded = new Set<string>();
  let retry: NodeJS.Timeout | undefined;
  let stopped = false;

  const takePlace = (provider: string, build: boolean): number => {
    const own = taken.get(provider) ?? new Set();
    const all = [...taken.values()].reduce((sum, places) => sum + places.size, 0);
    const places = build ? [buildPlace] : Array.from({ length: checksPerProviderMax }, (_, index) => index + 1);
    const place = places.find((candidate) => !own.has(candidate));
    if (place === undefined) throw new Failure('busy', build ? 'a build of yours is under way already' : `${places.length} checks of yours are under way already`, { remedy: 'Wait for one to end, and try again.' });
    if (all >= ports.checksMax) throw new Failure('busy', `${all} checks and builds are under way already`, { remedy: 'Try again in a few seconds.' });
    taken.set(provider, own.add(place));
    return place;
  };
  const freePlace = (provider: string, place: number): void => {
    const own = taken.get(provider);
    own?.delete(place);
    if (own?.size === 0) taken.delete(provider);
  };

  const tryEnd = async (check: StoredCheck): Promise<void> => {
    const { site, owner, place } = check;
    // An edgepoint that the operator has taken out of the settings has no bucket any more.
    if (ports.sites.some((known) => siteKey(known) === siteKey(site))) {
      await bus.deleteKv(buckets.desired, checkKey(site, owner.provider, place));
      await bus.deleteObject(artefactBucket(site), checkObject(owner.provider, place));
    }
    await store.remove(check.checkId);
    ending.delete(check.checkId);
    freePlace(owner.provider, place);
  };
  const end = async (check: StoredCheck): Promise<void> => {
    ending.set(check.checkId, check);
    // Twice at once, the second could take away what the next check in this place has put there.
    if (beingEnded.has(check.checkId)) return;
    beingEnded.add(check.checkId);
    try {
      await tryEnd(check);
    } catch (thrown) {
      log.warn('a check could not be ended yet', { checkId: check.checkId, code: codeOf(thrown), reason: messageOf(thrown) });
      retryLater();
    } finally {
      beingEnded.delete(check.checkId);
    }
  };
  const retryLater = (): void => {
    if (stopped || retry !== undefined) return;
    retry = setTimeout(() => {
      retry = undefined;
      void Promise.all([...ending.values()].map(end));
    }, retryMs);
  };

  const start = async (request: UploadRequest, place: number, build: BuildRequest | null): Promise<StoredCheck & { answer: CheckAnswer }> => {
    const { provider } = request.speaker;
    const { upload, judged: manifest } = await receiveApp(ports, request, build === null ? 'checks' : 'builds');
    try {
      if (manifest.image !== undefined) throw new Failure('manifest-image', `an app with an image cannot be ${build === null ? 'checked' : 'built'}`, { remedy: 'Deploy it; its report says the same.' });
      const previous = await ownedOrFree(ports.apps, request.speaker, manifest.app);
      const owner: Owner = { provider, scope: previous?.owner.scope ?? defaultScope, app: manifest.app };
      const current = previous ? (await ports.apps.placements(previous.id)).hosting : [];
      const { sites } = placeApp({ manifest, sites: ports.sites, current, pinned: await ports.apps.pinned(), refusing: new Set() });
      const chosen = await ports.edgepoints.chooseOnceHeard((seen) => chooseCheckSite({ sites, seen }));
      if (chosen === null) throw new Failure('no-edgepoint', 'no edgepoint that could host it is reachable', { remedy: 'Try again later, or tell the operator.' });
      const serving = previous === null ? null : await ports.apps.release(previous.id, previous.release);
      const configuration = previous === null || serving === null ? noConfiguration : await configurationOf(ports, previous, serving);
      const checkId = newId('check', ports.randomBytes);
      const check: StoredCheck = { checkId, owner, site: chosen.site, place };
      const release = (previous?.release ?? (await ports.apps.lastRelease(owner))) + 1;
      // What is built sees nothing of what was set of the app.
      const told = build === null ? await configurationFor(ports, { owner, release }, chosen.site, { manifest, configuration }) : { manifest, build: { ...(manifest.build ?? defaultBuild), install: manifest.build?.install ?? build.install } };
      const uidSlot = checkUidSlots.first + ((await store.add(check)) % (checkUidSlots.last - checkUidSlots.first + 1));
      try {
        const object = checkObject(provider, place);
        await bus.putObject(artefactBucket(check.site), object, Readable.toWeb(readUpload(upload.path)) as unknown as ReadableStream<Uint8Array>);
        const order = { checkId, ...owner, release, artefactDigest: upload.digest, artefactBytes: upload.bytes, object, ...told, hosts: hostsOf(manifest.app, ports.zoneName), uidSlot };
        await bus.putKv(buckets.desired, checkKey(check.site, provider, place), encodeMessage(checkOrderMessage, order));
      } catch (thrown) {
        await end(check);
        throw thrown;
      }
      return { ...check, answer: { checkId, app: manifest.app, release, site: check.site, siteReason: chosen.reason, artefactDigest: upload.digest, artefactBytes: upload.bytes } };
    } finally {
      await uploads.discard(upload);
    }
  };

  return {
    end,
    async begin(request, build) {
      await ownedOrFree(ports.apps, request.speaker, request.app);
      if (!bus.up) throw new Failure('bus-away', 'the message bus is away, and the edgepoints with it', { remedy: 'Try again in a few seconds.' });
      const { provider } = request.speaker;
      const place = takePlace(provider, build !== undefined);
      try {
        return await start(request, place, build ?? null);
      } catch (thrown) {
        // A check that is still being taken away keeps its place.
        const held = [...ending.values()].some((check) => check.owner.provider === provider && check.place === place);
        if (!held) freePlace(provider, place);
        throw thrown;
      }
    },
    async recover() {
      for (const check of await store.list()) {
        taken.set(check.owner.provider, (taken.get(check.owner.provider) ?? new Set()).add(check.place));
        ending.set(check.checkId, check);
      }
      if (ending.size > 0) retryLater();
    },
    stop() {
      stopped = true;
      clearTimeout(retry);
    },
  };
}
