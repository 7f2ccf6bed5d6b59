import type { Bus } from '../../host/bus.ts';
import type { Log } from '../../host/log.ts';
import { Failure, codeOf, messageOf } from '../../kit/errors.ts';
import { canaryOf, isCanary, ownerKey, siteKey } from '../../kit/ids.ts';
import type { Owner } from '../../kit/ids.ts';
import { eventMessage, logMessage } from '../../kit/wire/event.ts';
import { streams } from '../../kit/wire/subjects.ts';
import { parseMessage } from '../../kit/wire/version.ts';
import type { Edgepoints } from '../edgepoints.ts';
import { beginFollowing, endEarly, endOf, followEvent, followState, isFullyTold, supersededBy } from '../follow-deploy.ts';
import type { Following } from '../follow-deploy.ts';
import type { AppStore, StoredApp, StoredRelease } from '../store/apps.ts';
import type { LogLine, ProgressLine } from './answers.ts';
import { writeBuild } from './follow-build.ts';
import type { BuildWays } from './follow-build.ts';
import { writeCheck } from './follow-check.ts';
import type { FollowedCheck } from './follow-check.ts';
import { asNdjson, streamLines, whenGone } from './lines.ts';
import type { LineWriter } from './lines.ts';

export interface FollowPorts {
  readonly bus: Bus;
  readonly apps: AppStore;
  readonly edgepoints: Edgepoints;
  readonly log: Log;
  /** How long a deploy is watched before the stream gives up on it. */
  readonly deployMs: number;
  /** How long a check may take. */
  readonly checkMs: number;
  readonly followersMax: number;
}

export interface Follow {
  /**
   * The progress of a deploy (null: the current release's), from its first event to its end. `settleMs`: for so long after all are ready it is
   * watched whether an edgepoint takes the release back.
   */
  deploy(app: StoredApp, deployId: string | null, settleMs: number): Promise<ReadableStream<Uint8Array>>;
  /**
   * The stages of a check, from its first event to its report. `end` is called once, when nobody reads any more: the report has come,
   * the client has gone (`gone`, too), or it was not ready in time.
   */
  check(check: FollowedCheck, gone: AbortSignal, end: () => Promise<void>): ReadableStream<Uint8Array>;
  /** As `check`, for a build: `finish` is called with what was built and what then becomes of it is written by it. */
  build(check: FollowedCheck, gone: AbortSignal, ways: BuildWays): ReadableStream<Uint8Array>;
  logs(app: StoredApp, options: { last: number; follow: boolean }): Promise<ReadableStream<Uint8Array>>;
}

export function openFollow(ports: FollowPorts): Follow {
  let followers = 0;
  const begin = (produce: (writer: LineWriter) => Promise<void>): ReadableStream<Uint8Array> => {
    if (followers >= ports.followersMax) throw new Failure('busy', 'too many streams are open', { remedy: 'Close one, or try again in a few seconds.' });
    followers += 1;
    return streamLines({
      encode: asNdjson,
      beat: { type: 'beat' },
      produce: async (writer) => {
        writer.gone.addEventListener('abort', () => (followers -= 1), { once: true });
        try {
          await produce(writer);
        } catch (thrown) {
          // The answer has begun, so its status can tell nothing: the last line does.
          ports.log.warn('a stream broke', { code: codeOf(thrown), reason: messageOf(thrown) });
          writer.send({ type: 'note', code: codeOf(thrown), text: messageOf(thrown) });
          writer.end();
        }
      },
    });
  };
  return {
    async deploy(app, deployId, settleMs) {
      const release = deployId === null ? await ports.apps.release(app.id, app.release) : await ports.apps.findDeploy(app.id, deployId);
      if (!release) throw new Failure('deploy-unknown', `the app has no deploy ${JSON.stringify(deployId)}`);
      const asCanary = (await ports.apps.canaries.find(app.id))?.release === release.release;
      return begin((writer) => writeProgress(ports, app, { ...release, owner: asCanary ? canaryOf(app.owner) : app.owner, settleMs }, writer));
    },
    check: (check, gone, end) =>
      begin(async (writer) => {
        whenGone(writer, () => void end());
        gone.addEventListener('abort', () => writer.end(), { once: true });
        if (gone.aborted) writer.end();
        else await writeCheck(ports, check, writer);
      }),
    build: (check, gone, ways) =>
      begin(async (writer) => {
        whenGone(writer, () => void ways.end());
        gone.addEventListener('abort', () => writer.end(), { once: true });
        if (gone.aborted) writer.end();
        else await writeBuild({ ...ports, writeCheck: (next, until) => writeCheck(ports, next, until) }, check, ways, writer);
      }),
    async logs(app, options) {
      if (!ports.bus.up) throw new Failure('bus-away', 'the message bus is away, and the logs with it', { remedy: 'Try again in a few seconds.' });
      return begin((writer) => writeLogs(ports, app.owner, options, writer));
    },
  };
}

/** How long the first stored log line may take to come; they come in a few milliseconds. */
const nothingMs = 1000;

/** `owner`: the app's own, or its canary's. */
async function writeProgress(ports: FollowPorts, app: StoredApp, release: StoredRelease & { readonly owner: Owner; readonly settleMs: number }, writer: LineWriter): Promise<void> {
  const { bus, apps, edgepoints } = ports;
  const send = (line: ProgressLine): boolean => writer.send(line);
  let following = beginFollowing(release.release, (await apps.placements(app.id)).hosting);
  const withStates = (): Following => {
    let merged = following;
    const seen = edgepoints.seen();
    for (const site of merged.sites) merged = followState(merged, site, seen.get(siteKey(site))?.app(release.owner) ?? null);
    return merged;
  };
  let settles: NodeJS.Timeout | undefined;
  let settled = release.settleMs === 0;
  const finish = (end: ReturnType<typeof endOf>): void => {
    if (!end || writer.gone.aborted) return;
    if (end.outcome === 'ready' && !settled) {
      settles ??= setTimeout(() => {
        settled = true;
        finish(endOf(withStates()));
      }, release.settleMs);
      return;
    }
    send(end);
    writer.end();
  };
  // The events end it; the figures may stand only in the state, which follows them at once.
  const look = (): void => {
    const merged = withStates();
    if (endOf(following) && isFullyTold(merged)) finish(endOf(merged));
  };
  const checkCurrent = async (): Promise<void> => {
    const found = await apps.findByName(app.owner.app);
    const current = found?.id === app.id ? found : null;
    const canary = current === null || !isCanary(release.owner) ? null : await apps.canaries.find(app.id);
    const by = supersededBy({ release: release.release, canary: isCanary(release.owner) }, current === null ? null : { serving: current.release, canary: canary?.release ?? null });
    if (by === '') return;
    send(endEarly(following, 'superseded', by));
    writer.end();
  };

  if (!bus.up) {
    send({ type: 'note', code: 'bus-away', text: 'the message bus is away; the release is stored and goes out when it is back' });
    await untilUp(bus, writer.gone);
    if (writer.gone.aborted) return;
  }
  const consumer = await bus.consume(streams.events, { filter: `event.*.*.${ownerKey(release.owner)}`, from: 'all' }, async (_subject, text) => {
    const parsed = parseMessage(eventMessage, text);
    if (!parsed.ok || parsed.value.deployId !== release.deployId) return;
    send({ type: 'event', event: parsed.value });
    following = followEvent(following, parsed.value);
    look();
  });
  const stopWatching = edgepoints.onChange(look);
  // The state alone ends it too, for events are kept for a limited time; but by then those that are there have been told.
  const check = setInterval(() => {
    finish(endOf(withStates()));
    checkCurrent().catch((thrown: unknown) => ports.log.warn('a deploy could not be looked up', { reason: messageOf(thrown) }));
  }, 2000);
  const late = setTimeout(() => {
    send(endEarly(following, 'timeout', 'the edgepoints are still at work; `conduit status` tells how it goes on'));
    writer.end();
  }, ports.deployMs);
  whenGone(writer, () => {
    clearTimeout(settles);
    consumer.stop();
    stopWatching();
    clearInterval(check);
    clearTimeout(late);
  });
}

async function writeLogs(ports: FollowPorts, owner: Owner, options: { last: number; follow: boolean }, writer: LineWriter): Promise<void> {
  let old: LogLine[] | null = [];
  const tellOld = (): void => {
    for (const line of old ?? []) writer.send(line);
    old = null;
    if (!options.follow) writer.end();
  };
  const consumer = await ports.bus.consume(
    streams.logs,
    { filter: `log.*.*.${owner.provider}.*.${owner.app}`, from: 'all' },
    async (subject, text, { pending }) => {
      const [, zone = '', edgepoint = ''] = subject.split('.');
      const parsed = parseMessage(logMessage, text);
      if (parsed.ok) {
        const line: LogLine = { type: 'log', log: { ...parsed.value, zone, edgepoint } };
        if (old === null) writer.send(line);
        else {
          old.push(line);
          if (old.length > options.last) old.shift();
        }
      }
      if (old !== null && pending === 0) tellOld();
    },
  );
  // An app that has written nothing has no last message to wait for.
  const nothing = setTimeout(() => {
    if (old?.length === 0) tellOld();
  }, nothingMs);
  whenGone(writer, () => {
    consumer.stop();
    clearTimeout(nothing);
  });
}

function untilUp(bus: Bus, gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    bus.onUp(() => resolve());
    gone.addEventListener('abort', () => resolve(), { once: true });
    if (bus.up) resolve();
  });
}
