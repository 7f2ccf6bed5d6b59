import { openAsBlob } from 'node:fs';
import type { Bus } from '../../host/bus.ts';
import type { Clock } from '../../kit/clock.ts';
import type { Site } from '../../kit/ids.ts';
import { buildBucket } from '../../kit/wire/subjects.ts';
import { openBuildCache } from '../build/cache.ts';
import { ownTools } from '../build/own-tools.ts';
import { readRefusals } from '../build/refusals.ts';
import { runBuild } from '../build/run.ts';
import type { BuilderPorts } from '../build/run.ts';
import type { CheckPorts } from '../deploy/check.ts';
import { stopIf } from '../deploy/prepare.ts';
import { Slots } from '../deploy/slots.ts';
import type { Probe } from '../model/probe.ts';
import type { HeadSettings } from './settings.ts';
import { sleepMs } from './timers.ts';

/** Builds at once: more would take each other's time. */
const buildsMax = 1;
/** What was built waits so long for the conduit to fetch it. */
const fetchSeconds = 300;
/** The one object of the bucket, and the id of its chunks: so that whatever a killed head left is replaced by the next build. */
const object = 'built';
const chunks = 'built';

/** Builds of source folders, one at a time; what comes of one lies in the bucket of builds until the conduit has fetched it. */
export function openBuilds(about: { site: Site; bus: Bus; clock: Clock; probe: Probe; settings: HeadSettings; lastWords: (logPath: string) => string }): CheckPorts['build'] {
  const { site, bus, clock, probe, settings } = about;
  const { dataFolder, buildCacheBytes: bytesMax } = settings;
  const slots = new Slots(buildsMax);
  const bucket = buildBucket(site);
  const ports: BuilderPorts = {
    clock,
    probe,
    cache: openBuildCache(`${dataFolder}/builds/cache`, { bytesMax, providerBytesMax: Math.floor(bytesMax / 4) }),
    npmRegistry: settings.npmRegistry,
    tools: () => ownTools(settings.buildTools, `${dataFolder}/builds/tools`),
    refusals: readRefusals,
    lastWords: async (logPath) => {
      // Its last lines may still be on their way to the file.
      await sleepMs(20);
      return about.lastWords(logPath);
    },
  };
  return (wish, { artefact, folder, ports: deploy, tell, cancelled }) =>
    slots.use(async () => {
      stopIf(cancelled);
      const { order, build } = wish;
      const told = (text: string, more = {}): void => tell('build', text, more);
      const built = await runBuild({ order, build, artefact, folder, cancelled, tell: told, boot: (boxOrder) => deploy.boot(boxOrder) }, ports);
      await bus.dropObject(bucket, object, chunks);
      try {
        const content = await openAsBlob(built.file);
        await bus.putNotedObject(bucket, object, { content: () => content.stream() as ReadableStream<Uint8Array>, id: chunks, note: () => Promise.resolve(wish.checkId) });
        tell('built', 'It is built.', { built: { object, digest: built.digest, bytes: built.bytes } });
        await untilAborted(cancelled, fetchSeconds);
      } finally {
        await bus.dropObject(bucket, object, chunks);
      }
    });
}

function untilAborted(cancelled: AbortSignal, seconds: number): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(finish, seconds * 1000);
    if (cancelled.aborted) finish();
    else cancelled.addEventListener('abort', finish, { once: true });
  });
}
