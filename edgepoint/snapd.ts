import { join, relative } from 'node:path';
import { z } from 'zod';
import { Failure, messageOf } from '../kit/errors.ts';
import { listenForPeers } from '../host/calls.ts';
import { openClock } from '../host/clock.ts';
import { readSettings } from '../host/config.ts';
import { requireRoot } from './box/root.ts';
import { serveHealth } from '../host/health.ts';
import { openLog } from '../host/log.ts';
import { openMetrics } from '../host/metrics.ts';
import { tools } from '../host/tools.ts';
import type { ImageCalls, SnapdCalls } from './model/calls.ts';
import type { ExchangeCalls } from './model/exchange.ts';
import { openImageUnpacker } from './snapd/unpack-image.ts';
import { openSnapshots } from './snapd/snapshot.ts';
import { openStoreSurroundings } from './template-store.ts';
import { openExchange } from './templates/exchange.ts';
import { readTrusted } from './templates/trusted.ts';
import { openSealer } from './templates/sealer.ts';
import { openVolumeStore } from './volume-store.ts';

const settingsSchema = z.object({
  zone: z.string().describe('the zone of this edgepoint'),
  edgepoint: z.string().describe('the name of this edgepoint'),
  runFolder: z.string().describe('sockets and records; lost at a reboot'),
  dataFolder: z.string().describe('snapshots, volumes'),
  health: z.string().default('').describe("where health and metrics are served: 'unix:/path' or host:port; empty for nowhere"),
  criu: z.string().default(tools.criu).describe('the CRIU program'),
  keyFolder: z.string().default('').describe('keys of snapshots, for root alone; empty for `keys` in the data folder'),
  boxProgram: z.string().default(tools.box).describe('the edgepoint-box program of the instances'),
  baseRoot: z.string().default(tools.baseRoot).describe('the base root filesystem of the instances'),
  trustedFile: z.string().default('').describe('the edgepoints whose templates are used here and who may open those made here, a list of what `edgepoint identity` says on each; empty for none'),
});

/** The process `edgepoint snapd`: snapshots instances for the head. Needs root. */
export async function runSnapd(argv: readonly string[]): Promise<void> {
  const settings = await readSettings(
    { name: 'edgepoint snapd', about: 'snapshots running instances', prefix: 'EDGEPOINT', schema: settingsSchema },
    argv,
    process.env,
  );
  requireRoot('edgepoint snapd');
  const log = openLog('snapd').with({ zone: settings.zone, edgepoint: settings.edgepoint });
  const metrics = openMetrics('snapd');
  const tookMs = metrics.histogram('edgepoint_snapshot_ms', 'Time to snapshot an instance', [], [10, 20, 50, 100, 200, 500, 1000, 5000, 20_000]);
  const failures = metrics.counter('edgepoint_snapshot_failures_total', 'Snapshots that failed', ['code']);
  const store = openStoreSurroundings(settings);
  const snapshots = openSnapshots({ runFolder: settings.runFolder, criu: settings.criu, clock: openClock(), store: openSealer(store.folder, store.ports, store.here) });
  const images = openImageUnpacker({ boxProgram: settings.boxProgram, clock: openClock() });
  const exchange = openExchange({ ...store.ports, dataFolder: settings.dataFolder, here: store.here, trusted: () => readTrusted(settings.trustedFile) });
  const volumes = openVolumeStore({ ports: { ...store.ports, trusted: () => readTrusted(settings.trustedFile) }, dataFolder: settings.dataFolder, runFolder: settings.runFolder, clock: openClock() });
  type Order<Call extends keyof ExchangeCalls> = Parameters<ExchangeCalls[Call]>[0];
  void snapshots.recover(settings.dataFolder).catch((error: unknown) => log.error('a snapshot left under way could not be settled', { reason: messageOf(error) }));

  const server = listenForPeers(
    join(settings.runFolder, 'snapd.sock'),
    {
      snapshot: async (order: Parameters<SnapdCalls['snapshot']>[0]) => {
        try {
          const taken = await snapshots.snapshot(order);
          tookMs.observe({}, taken.tookMs);
          log.info('snapshot taken', { instance: order.instance, ...taken });
          return taken;
        } catch (error) {
          failures.inc({ code: (error as { code?: string }).code ?? 'unexpected' });
          log.warn('snapshot failed', { instance: order.instance, reason: messageOf(error) });
          throw error;
        }
      },
      discard: async (order: Parameters<SnapdCalls['discard']>[0]) => {
        // It removes whole folders, as root, and of one that is named by its digest the folder around it.
        const [first, ...others] = relative(settings.dataFolder, order.snapshotPath).split('/');
        if (first === '..' || others.length === 0) throw new Failure('not-a-snapshot', `${order.snapshotPath} does not lie in the data folder of this edgepoint`);
        await snapshots.discard(order);
      },
      unpackImage: (order: Parameters<ImageCalls['unpackImage']>[0]) => images.unpackImage(order),
      removeImage: (order: Parameters<ImageCalls['removeImage']>[0]) => images.removeImage(order),
      offer: (order: Order<'offer'>) => exchange.offer(order),
      readSealed: (order: Order<'readSealed'>) => exchange.readSealed(order),
      weigh: (order: Order<'weigh'>) => exchange.weigh(order),
      admit: async (order: Order<'admit'>) => {
        const admitted = await exchange.admit(order);
        log.info('template admitted', { ...admitted, owner: order.wanted.owner, release: order.wanted.release, from: order.from });
        return admitted;
      },
      ...volumes,
    },
    { log },
  );
  const health = settings.health ? serveHealth({ listen: settings.health, metrics, check: () => ({ ok: true, detail: {} }) }) : null;
  log.info('snapd is up', {});
  process.on('SIGTERM', () => {
    server.stop();
    health?.stop();
    process.exit(0);
  });
}
