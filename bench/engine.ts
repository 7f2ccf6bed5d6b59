import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { openClock } from '../host/clock.ts';
import { tools } from '../host/tools.ts';
import { bytesPerMebibyte } from '../kit/units.ts';
import { parseSubnet } from '../edgepoint/box/address.ts';
import { cgroupFolders, cgroupOf, cgroupVersion, prepareCgroupParents } from '../edgepoint/box/cgroup.ts';
import { prepareDev } from '../edgepoint/box/dev.ts';
import { boxPlaces } from '../edgepoint/box/folders.ts';
import { becomeChildSubreaper, keepBreakpointsReady, pageFaultsMayBeAnswered } from '../edgepoint/box/kernel.ts';
import { prepareBridge } from '../edgepoint/box/network.ts';
import { openOrphanReaper } from '../edgepoint/box/orphans.ts';
import { openSlotPool, removeSlot, type SlotPlace } from '../edgepoint/box/slot.ts';
import { lazyFromBytes } from '../edgepoint/restored/choose-restore.ts';
import { readZramSwap } from '../host/zram.ts';
import { openCourtesy } from '../edgepoint/restored/courtesy.ts';
import { openExitWatch } from '../edgepoint/restored/exit-watch.ts';
import { openFreezing } from '../edgepoint/restored/freezing.ts';
import { openPagers } from '../edgepoint/restored/pagers.ts';
import { openInstances, type Instances } from '../edgepoint/restored/instances.ts';
import { openSessions } from '../edgepoint/restored/sessions.ts';
import { openSnapshots } from '../edgepoint/snapd/snapshot.ts';
import type { SnapdCalls } from '../edgepoint/model/calls.ts';
import { openStoreSurroundings, type StoreSurroundings } from '../edgepoint/template-store.ts';
import { type HotCache, openHotCache } from '../edgepoint/templates/hot-cache.ts';
import { openSealer } from '../edgepoint/templates/sealer.ts';

/** The real snapshot engine in this process, in namespaces of the benchmark's own. */
export interface Engine {
  readonly instances: Instances;
  readonly snapshots: SnapdCalls;
  readonly templates: HotCache;
  readonly store: StoreSurroundings;
  readonly runFolder: string;
  readonly dataFolder: string;
  /** From how much memory on its restores are lazy; may be changed between two. */
  readonly lazy: { readonly machineAllows: boolean; lazyFromBytes: number };
  close(): Promise<void>;
}

const dataFolders = '/var/tmp/edgepoint-bench-';
const marker = 'EDGEPOINT_BENCH_INSIDE';

/**
 * Runs this same command again in a network and a mount namespace of its own, with /run a tmpfs (where CRIU keeps what it knows
 * of the kernel), and ends with it; returns only inside.
 */
export async function enterOwnNamespaces(): Promise<void> {
  if (process.env[marker]) return;
  const script = 'mount -t tmpfs -o mode=755 edgepoint-bench /run && ip link set lo up && exec "$@"';
  const inside = Bun.spawn(['unshare', '--net', '--mount', 'sh', '-c', script, 'sh', process.execPath, ...process.argv.slice(1)], {
    stdio: ['inherit', 'inherit', 'inherit'],
    env: { ...process.env, [marker]: '1' },
  });
  process.exit(await inside.exited);
}

/** `poolSize`: how many slots stand ready; `hotBytes`: how much room the hot cache has. */
export async function openEngine({ poolSize = 8, hotBytes = 2048 * bytesPerMebibyte }: { poolSize?: number; hotBytes?: number } = {}): Promise<Engine> {
  const world = `bench${process.pid}`;
  const edgepoint = 'bench';
  const version = cgroupVersion();
  const runFolder = '/run/edgepoint-bench';
  const dataFolder = mkdtempSync(`${dataFolders}${process.pid}-`);
  mkdirSync(runFolder, { recursive: true });
  becomeChildSubreaper();
  keepBreakpointsReady();
  removeDeadBenchmarks();
  const place: SlotPlace = { world, edgepoint, boxProgram: tools.box, criu: tools.criu, cgroupVersion: version };
  const parents = cgroupOf(version, world, edgepoint, 'any');
  prepareCgroupParents(parents);
  prepareDev(boxPlaces(runFolder).dev);
  const subnet = parseSubnet('10.250.0.0/22');
  await prepareBridge(subnet, '10.250.0.0/22');
  const slots = await openSlotPool(place, { size: poolSize, inUse: new Set() });
  const clock = openClock();
  const orphans = openOrphanReaper();
  const lazy = { machineAllows: pageFaultsMayBeAnswered(), lazyFromBytes };
  const store = openStoreSurroundings({ zone: 'bench', edgepoint, runFolder, dataFolder, keyFolder: '', criu: tools.criu, boxProgram: tools.box, baseRoot: tools.baseRoot });
  const templates: HotCache = openHotCache({
    folder: store.folder,
    bytesMax: hotBytes,
    ports: store.ports,
    here: store.here,
    layersInUse: () => instances.layers(),
    wallMs: clock.wallMs,
  });
  const pagers = openPagers({
    runFolder,
    boxProgram: tools.box,
    clock,
    machineAllows: pageFaultsMayBeAnswered(),
    heldBytesMax: () => totalmem() / 4,
    expectOrphan: orphans.expect,
    note: () => undefined,
  });
  const instances: Instances = openInstances({
    place,
    templates,
    openSecrets: () => ({}),
    baseRootName: store.baseRootName,
    runFolder,
    subnet,
    imageBase: tools.imageBase,
    baseRoot: tools.baseRoot,
    guard: tools.guard,
    clock,
    orphans,
    freezing: openFreezing({ boxProgram: tools.box, clock, swaps: () => readZramSwap() !== null, pagers }),
    pagers,
    courtesy: openCourtesy({ clock, note: () => undefined }),
    sessions: openSessions({ runFolder, boxProgram: tools.box, expectOrphan: orphans.expect, warn: (text, fields) => console.error(text, fields) }),
    slots,
    lazy,
    tell: () => undefined,
    note: () => undefined,
    warn: (text, fields) => console.error(text, fields),
  });
  const watch = openExitWatch(
    tools.box,
    (pid) => void instances.exited(pid),
    () => undefined,
  );
  await instances.recover(watch);
  templates.begin();
  return {
    instances,
    templates,
    store,
    snapshots: openSnapshots({ runFolder, criu: tools.criu, clock, store: openSealer(store.folder, store.ports, store.here) }),
    runFolder,
    dataFolder,
    lazy,
    async close(): Promise<void> {
      for (const running of await instances.list()) await instances.stop({ instance: running.instance, graceMs: 0 });
      watch.stop();
      templates.close();
      slots.close();
      await openSlotPool(place, { size: 1, inUse: new Set() }).then(async (pool) => removeSlot(place, (await pool.take()).name));
      for (const folder of cgroupFolders(parents)) {
        const parent = join(folder, '..');
        for (const path of [parent, join(parent, '..')]) if (existsSync(path)) rmdirSync(path);
      }
      rmSync(dataFolder, { recursive: true, force: true });
    },
  };
}

/** What benchmarks that were killed have left, cgroups and data: the names tell whose it is. */
function removeDeadBenchmarks(): void {
  for (const name of readdirSync(dirname(dataFolders))) {
    const pid = /^edgepoint-bench-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(dirname(dataFolders), name), { recursive: true, force: true });
  }
  const found = ['*/edgepoint-bench*', 'edgepoint-bench*'].flatMap((pattern) => [...new Bun.Glob(pattern).scanSync({ cwd: '/sys/fs/cgroup', onlyFiles: false, absolute: true })]);
  for (const folder of found) {
    const pid = /edgepoint-bench-?(\d+)/.exec(folder)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    Bun.spawnSync(['find', folder, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';'], { stderr: 'ignore' });
  }
}

/** Milliseconds until the first byte of the answer to a GET, trying again while nobody listens; a fresh connection each time. */
export async function firstByte(address: string, port: number, timeoutMs = 30_000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const answered = await new Promise<boolean>((resolve) => {
      Bun.connect({
        hostname: address,
        port,
        socket: {
          open: (socket) => void socket.write(`GET / HTTP/1.1\r\nHost: ${address}\r\nConnection: close\r\n\r\n`),
          data: (socket) => {
            resolve(true);
            socket.end();
          },
          close: () => resolve(false),
          error: () => resolve(false),
          connectError: () => resolve(false),
        },
      }).catch(() => resolve(false)); // refused: nobody listens yet
    });
    if (answered) return;
    if (performance.now() > endMs) throw new Error(`${address}:${port} did not answer within ${timeoutMs} ms`);
    await Bun.sleep(0.5);
  }
}
