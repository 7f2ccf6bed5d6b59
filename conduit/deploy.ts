import { Failure, assertInvariant } from '../kit/errors.ts';
import { defaultScope, newId, siteKey } from '../kit/ids.ts';
import type { Owner, RandomBytes, Site } from '../kit/ids.ts';
import type { Manifest } from '../kit/wire/manifest.ts';
import type { Clock } from '../kit/clock.ts';
import { inspectArchive } from './archive.ts';
import type { Inspection } from './archive.ts';
import type { ConfiguredAnswer, DeployAnswer } from './api/answers.ts';
import { changeConfiguration, configuredManifest, noConfiguration } from './configuration/change.ts';
import type { Configuration, ConfigurationChange } from './configuration/change.ts';
import type { Vault } from './configuration/vault.ts';
import type { Edgepoints } from './edgepoints.ts';
import { hostsOf, urlOf } from './describe-app.ts';
import type { Issued } from './domains/issued.ts';
import { manifestFailure, manifestFile, readManifest } from './manifest/read.ts';
import { openPlaces } from './places.ts';
import { canaryAlone, existingCanary, whyNoCanary } from './canary.ts';
import { chooseUidSlot, placeApp } from './placement.ts';
import type { Layers } from './layers.ts';
import type { Placement } from './placement.ts';
import { chooseRollback, keptReleases } from './rollback.ts';
import type { AppStore, StoredApp, StoredRelease } from './store/apps.ts';
import type { Speaker } from './store/accounts.ts';
import type { ReceivedUpload, Uploads } from './uploads.ts';

export interface DeployPorts {
  readonly apps: AppStore;
  readonly uploads: Uploads;
  readonly layers: Layers;
  readonly vault: Vault;
  readonly edgepoints: Edgepoints;
  readonly issued: Pick<Issued, 'of'>;
  readonly sites: readonly Site[];
  readonly zoneName: string;
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
  readonly uploadsMax: number;
  /** Called when the database holds something the bus has not been told. */
  readonly onChange: () => void;
}

export interface UploadRequest {
  readonly speaker: Speaker;
  readonly app: string;
  readonly body: AsyncIterable<Uint8Array>;
  readonly bytes: number | null;
  readonly digest: string | null;
  /** It becomes a canary with this share of the app's requests, in percent; null: it is to serve. */
  readonly canaryPercent: number | null;
}

export interface Deploys {
  /** Takes an upload in: it is whole, judged and written to the database when this returns. */
  accept(request: UploadRequest): Promise<DeployAnswer>;
  /** Has an earlier release serve again (null: the one before); it is written to the database when this returns. */
  rollback(speaker: Speaker, app: string, to: number | null): Promise<DeployAnswer>;
  /** Sets variables or secrets: a new release of the same artefact. One that serves already when nothing changes. */
  configure(speaker: Speaker, app: string, change: ConfigurationChange): Promise<ConfiguredAnswer>;
  /** Gives the app's canary another share of its requests; where its release was stopped it is tried again. */
  changeCanary(speaker: Speaker, app: string, percent: number): Promise<DeployAnswer>;
  /** Has the canary's release serve, in place of the one that does. */
  promoteCanary(speaker: Speaker, app: string): Promise<DeployAnswer>;
  /** Takes the canary away; the number of its release. */
  abortCanary(speaker: Speaker, app: string): Promise<number>;
  remove(speaker: Speaker, app: string): Promise<void>;
  /** Places every app anew; used when the operator's edgepoints have changed. */
  placeAll(): Promise<void>;
}

/** How long an upload waits, unread, for one before it to end: less than the server keeps a silent connection. */
const placeWaitMs = 10_000;

export function openDeploys(ports: DeployPorts): Deploys {
  const { apps, uploads, clock } = ports;
  const places = openPlaces(ports.uploadsMax);
  // One change at a time: what is decided from the database must still hold when it is written.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = last.then(work, work);
    last = result.catch(() => undefined);
    return result;
  };

  const serve = async (app: StoredApp, target: StoredRelease): Promise<DeployAnswer> => {
    const placement = await choosePlace(ports, target.manifest, (await apps.placements(app.id)).hosting);
    const deployId = newId('dp', ports.randomBytes);
    await apps.serveRelease(app, { release: target.release, deployId, sites: placement.sites, reason: placement.reason });
    return told(app, { ...target, deployId }, placement);
  };
  const told = async (app: StoredApp, release: StoredRelease, placement: Placement, canaryPercent: number | null = null): Promise<DeployAnswer> => {
    await settle(ports, app.owner);
    return answerOf(ports, release, placement, canaryPercent);
  };
  const canaryNow = async (app: StoredApp) => {
    const canary = existingCanary(app.owner.app, await apps.canaries.find(app.id));
    const release = await apps.release(app.id, canary.release);
    assertInvariant(release !== null, `the canary of ${app.owner.app} has a row of its release`);
    return { canary, release };
  };

  return {
    async accept(request) {
      const before = await ownedOrFree(apps, request.speaker, request.app);
      // Said before anything is read: it may take a while to send.
      if (request.canaryPercent !== null && before === null) throw canaryAlone(request.app);
      if (!(await places.take(placeWaitMs))) {
        throw new Failure('busy', `${ports.uploadsMax} uploads are under way already`, { remedy: 'Try again in a few seconds.' });
      }
      try {
        const { upload, judged: manifest } = await receiveApp(ports, request, 'releases');
        try {
          return await inTurn(() => write(ports, request, upload, manifest));
        } finally {
          await uploads.discard(upload);
        }
      } finally {
        places.free();
      }
    },
    rollback: (speaker, name, to) =>
      inTurn(async () => {
        const app = await ownApp(apps, speaker, name);
        const target = chooseRollback({ app: name, current: app.release, releases: await apps.releases(app.id, keptReleases + 1, 'served'), to });
        return serve(app, target);
      }),
    changeCanary: (speaker, name, percent) =>
      inTurn(async () => {
        const app = await ownApp(apps, speaker, name);
        const { canary, release } = await canaryNow(app);
        const deployId = newId('dp', ports.randomBytes);
        await apps.canaries.change(app, { ...canary, percent, deployId });
        return told(app, { ...release, deployId }, { sites: (await apps.placements(app.id)).hosting, reason: app.placementReason }, percent);
      }),
    promoteCanary: (speaker, name) =>
      inTurn(async () => {
        const app = await ownApp(apps, speaker, name);
        return serve(app, (await canaryNow(app)).release);
      }),
    abortCanary: (speaker, name) =>
      inTurn(async () => {
        const app = await ownApp(apps, speaker, name);
        const { canary } = await canaryNow(app);
        await apps.canaries.end(app);
        await settle(ports, app.owner);
        return canary.release;
      }),
    configure: (speaker, name, change) => inTurn(async () => writeConfiguration(ports, await ownApp(apps, speaker, name), change)),
    remove: (speaker, name) =>
      inTurn(async () => {
        const app = await ownApp(apps, speaker, name);
        await apps.markDeleted(app, clock.wallMs());
        await sweep(ports);
        ports.onChange();
      }),
    placeAll: () =>
      inTurn(async () => {
        for (const app of await apps.live()) {
          const release = await apps.release(app.id, app.release);
          const { hosting } = await apps.placements(app.id);
          if (!release) continue;
          const placement = await choosePlace(ports, release.manifest, hosting);
          if (placement.sites.map(siteKey).join() !== hosting.map(siteKey).join()) await apps.place(app, placement.sites, placement.reason);
        }
      }),
  };
}

/** The app of this name if it is the speaker's, else a Failure that does not tell whose it is. */
export async function ownApp(apps: AppStore, speaker: Speaker, name: string): Promise<StoredApp> {
  const app = await apps.findByName(name);
  if (app && app.owner.provider === speaker.provider) return app;
  throw new Failure('app-unknown', `you have no app named ${JSON.stringify(name)}`, { remedy: '`conduit list` shows your apps.' });
}

/** The speaker's app of this name, or null when nobody has it. */
export async function ownedOrFree(apps: AppStore, speaker: Speaker, name: string): Promise<StoredApp | null> {
  const app = await apps.findByName(name);
  if (!app || app.owner.provider === speaker.provider) return app;
  throw new Failure('name-taken', `the name ${JSON.stringify(name)} is taken by another provider`, {
    remedy: 'Choose another `app` in edgepoint.toml: names are unique, for they become names in DNS.',
  });
}

/** Receives an app's archive and reads it through meanwhile; the manifest in it is of that app. `way`: where under the app it was sent to. */
export async function receiveApp(ports: Pick<DeployPorts, 'uploads' | 'randomBytes'>, request: UploadRequest, way: 'releases' | 'checks' | 'builds'): Promise<{ readonly upload: ReceivedUpload; readonly judged: Manifest }> {
  const { body, bytes, digest, app } = request;
  return ports.uploads.receive(newId('up', ports.randomBytes), body, { bytes, digest }, async (source) => manifestOf(await inspectArchive(source), app, way));
}

function manifestOf({ manifestText }: Inspection, app: string, way: 'releases' | 'checks' | 'builds'): Manifest {
  if (manifestText === null) {
    throw new Failure('manifest-missing', `there is no ${manifestFile} at the root of the archive`, { remedy: '`conduit init` writes one.' });
  }
  const read = readManifest(manifestText);
  if (!read.ok) throw manifestFailure(read.problems);
  if (read.manifest.app !== app) {
    throw new Failure('manifest-differs', `the manifest is of the app ${JSON.stringify(read.manifest.app)}, but it was sent to ${JSON.stringify(app)}`, {
      remedy: `Send it to /v1/apps/${read.manifest.app}/${way}.`,
    });
  }
  return read.manifest;
}

async function write(ports: DeployPorts, request: UploadRequest, upload: ReceivedUpload, manifest: Manifest): Promise<DeployAnswer> {
  const { apps, uploads, clock } = ports;
  const previous = await ownedOrFree(apps, request.speaker, manifest.app);
  await ports.layers.require(request.speaker.provider, manifest.image?.layers ?? []);
  const current = previous ? (await apps.placements(previous.id)).hosting : [];
  const placement = await choosePlace(ports, manifest, current);
  if (placement.sites.length === 0) throw new Failure('no-edgepoint', 'the operator has no edgepoint yet', { remedy: 'Tell the operator; try again later.' });
  const owner: Owner = { provider: request.speaker.provider, scope: previous?.owner.scope ?? defaultScope, app: manifest.app };
  const release = await nextRelease(apps, owner);
  // What was set stays set; it is judged again, for the manifest has changed.
  const configuration = previous === null ? noConfiguration : await configurationOf(ports, previous, await currentRelease(apps, previous));
  configuredManifest(manifest, configuration);
  const deployId = newId('dp', ports.randomBytes);
  const uidSlot = previous?.uidSlot ?? (await freeUidSlot(apps));
  const next = { release, deployId, manifest, artefactDigest: upload.digest, artefactBytes: upload.bytes, createdWallMs: clock.wallMs() };
  const secrets = await ports.vault.seal({ owner, release }, configuration.secrets);
  const row = { ...next, owner, uidSlot, sites: placement.sites, placementReason: placement.reason, env: configuration.env, secrets, about: '' };
  const { canaryPercent } = request;
  const serving = previous === null ? null : await apps.release(previous.id, previous.release);
  if (canaryPercent !== null) {
    if (previous === null || serving === null) throw canaryAlone(manifest.app);
    const refusal = whyNoCanary(manifest.app, [serving.manifest, manifest]);
    if (refusal !== null) throw refusal;
  }
  // The artefact is durable before the row that names it.
  await uploads.keep(upload);
  if (previous !== null && canaryPercent !== null) await apps.canaries.begin(previous, row, canaryPercent);
  else await apps.addRelease(previous, row);
  await settle(ports, owner);
  return answerOf(ports, next, canaryPercent === null ? placement : { ...placement, sites: current }, canaryPercent);
}

async function writeConfiguration(ports: DeployPorts, app: StoredApp, change: ConfigurationChange): Promise<ConfiguredAnswer> {
  const { apps, clock } = ports;
  const { owner } = app;
  const current = await currentRelease(apps, app);
  const release = await nextRelease(apps, owner);
  const createdWallMs = clock.wallMs();
  const changed = changeConfiguration(await configurationOf(ports, app, current), change, { release, wallMs: createdWallMs });
  const { hosting } = await apps.placements(app.id);
  if (changed === null) return { ...answerOf(ports, current, { sites: hosting, reason: app.placementReason }, null), changed: false, about: '' };
  const { after, about } = changed;
  configuredManifest(current.manifest, after);
  const placement = await choosePlace(ports, current.manifest, hosting);
  const deployId = newId('dp', ports.randomBytes);
  const next = { ...current, release, deployId, createdWallMs, about, env: after.env, secrets: await ports.vault.seal({ owner, release }, after.secrets) };
  await apps.addRelease(app, { ...next, owner, uidSlot: app.uidSlot, sites: placement.sites, placementReason: placement.reason });
  await settle(ports, owner);
  return { ...answerOf(ports, next, placement, null), changed: true, about };
}

/** Counted on from the newest, also after a way back, and from a deleted app of this name, so that nothing an edgepoint still holds of it can be taken for the new one's. */
const nextRelease = async (apps: AppStore, owner: Owner): Promise<number> => (await apps.lastRelease(owner)) + 1;

/** After a new release: what older ones left is given up, and the bus is told. */
async function settle(ports: DeployPorts, owner: Owner): Promise<void> {
  const { apps, onChange } = ports;
  const app = await apps.findByName(owner.app);
  if (app !== null) await apps.forgetConfigurations(app.id, keptReleases);
  await sweep(ports);
  onChange();
}

async function sweep({ apps, uploads, layers }: DeployPorts): Promise<void> {
  await uploads.sweepUnneeded(await apps.neededArtefacts(keptReleases));
  await layers.sweep();
}

async function currentRelease(apps: AppStore, app: StoredApp): Promise<StoredRelease> {
  const release = await apps.release(app.id, app.release);
  if (release === null) throw new Error(`broken invariant: release ${app.release} of ${app.owner.app} has no row`);
  return release;
}

/** What was set of a release of the app. */
export async function configurationOf({ vault }: { readonly vault: Vault }, { owner }: Pick<StoredApp, 'owner'>, { release, env, secrets }: StoredRelease): Promise<Configuration> {
  return { env, secrets: await vault.open({ owner, release }, secrets) };
}

type Answered = Pick<StoredRelease, 'release' | 'deployId' | 'manifest' | 'artefactDigest' | 'artefactBytes'>;

function answerOf(ports: DeployPorts, { manifest, ...release }: Answered, placement: Placement, canaryPercent: number | null): DeployAnswer {
  const hosts = hostsOf(manifest.app, ports.zoneName);
  const { deployId, artefactDigest, artefactBytes } = release;
  return {
    app: manifest.app,
    release: release.release,
    deployId,
    artefactDigest,
    artefactBytes,
    hosts,
    url: urlOf(hosts, ports.issued.of(ports.zoneName), ports.clock.wallMs()),
    sites: [...placement.sites],
    placementReason: placement.reason,
    canaryPercent,
  };
}

async function choosePlace(ports: DeployPorts, manifest: Manifest, current: readonly Site[]) {
  const refusing = new Set([...ports.edgepoints.seen().values()].filter(({ state }) => !state.accepting).map(({ state }) => siteKey(state)));
  return placeApp({ manifest, sites: ports.sites, current, pinned: await ports.apps.pinned(), refusing });
}

async function freeUidSlot(apps: AppStore): Promise<number> {
  const { taken, freed } = await apps.uidSlots();
  const slot = chooseUidSlot(taken, freed);
  if (slot === null) throw new Failure('too-many-apps', 'the operator’s edgepoints can hold no more apps', { remedy: 'Delete an app that is not needed.' });
  return slot;
}
