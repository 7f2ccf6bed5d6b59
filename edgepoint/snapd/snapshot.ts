import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../kit/clock.ts';
import { Failure } from '../../kit/errors.ts';
import { nsPerMs } from '../../kit/units.ts';
import { dumpArguments } from '../box/arguments.ts';
import { readFrozenMs } from '../box/criu-stats.ts';
import { explainCriuLog } from '../box/dump-failure.ts';
import { instanceFolder, snapshotParts, snapshottedMark, upperFolder } from '../box/folders.ts';
import { setLink } from '../box/network.ts';
import { readRecord } from '../box/record.ts';
import type { SnapdCalls, SnapshotOrder, SnapshotTaken } from '../model/calls.ts';

export interface SnapshotOptions {
  readonly runFolder: string;
  /** The command that runs CRIU. */
  readonly criu: readonly string[];
  readonly clock: Clock;
}

const dumpTimeoutMs = 120_000;
const copyScript = fileURLToPath(new URL('copy-disk.sh', import.meta.url));

/** Snapshots running instances: whole or not at all, and an instance that could not be snapshotted runs on. */
export function openSnapshots(options: SnapshotOptions): SnapdCalls {
  const { runFolder, clock } = options;
  const under = new Map<string, Promise<SnapshotTaken>>();

  async function take(order: SnapshotOrder): Promise<SnapshotTaken> {
    const record = readRecord(runFolder, order.instance);
    if (!record?.running) throw new Failure('no-such-instance', `no instance ${order.instance} is running here`);
    if (existsSync(order.snapshotPath)) throw new Failure('exists', `there is already a snapshot at ${order.snapshotPath}`);
    const begunNs = clock.bootNs();
    const part = `${order.snapshotPath}.part`;
    rmSync(part, { recursive: true, force: true });
    const parts = snapshotParts(part);
    const mark = snapshottedMark(runFolder, order.instance);
    try {
      /* Root alone walks into the snapshot; the images below are open because CRIU reads some of them as the instance's own uid, through a descriptor. */
      mkdirSync(part, { recursive: true, mode: 0o700 });
      mkdirSync(parts.images, { mode: 0o755 });
      if (!order.keepRunning) {
        /* What came in after its socket was read would be acknowledged and lost, so nothing may come in. */
        await setLink(record.slot, false);
        writeFileSync(mark, '');
      }
      const { pid } = record.running;
      const dump = dumpArguments({
        pid,
        folder: instanceFolder(runFolder, order.instance),
        volumeMountPaths: record.order.volumes.map((volume) => volume.mountPath),
        imagesFolder: parts.images,
        keepRunning: order.keepRunning,
        ownNetwork: record.order.ownNetwork,
        script: copyScript,
      });
      /* A shared network namespace is not dumped because CRIU stands in it itself. */
      const enter = record.order.ownNetwork ? [] : ['nsenter', `--net=/proc/${pid}/ns/net`];
      const child = Bun.spawn([...enter, ...options.criu, ...dump], {
        stdin: 'ignore',
        stdout: 'ignore',
        stderr: 'pipe',
        timeout: dumpTimeoutMs,
        killSignal: 'SIGKILL',
        env: { ...process.env, EDGEPOINT_UPPER: upperFolder(runFolder, order.instance), EDGEPOINT_DISK: parts.disk },
      });
      const [status, err] = await Promise.all([child.exited, new Response(child.stderr).text()]);
      if (status !== 0) throw dumpFailure(`${parts.images}/dump.log`, err);
      rmSync(`${parts.images}/dump.log`);
      const frozenMs = readFrozenMs(readFileSync(`${parts.images}/stats-dump`));
      const { volumes, uidSlot, owner, release } = record.order;
      writeFileSync(parts.description, JSON.stringify({ owner, release, uidSlot, address: record.address, volumes: volumes.map((volume) => volume.mountPath) }));
      const bytes = await folderBytes(part);
      renameSync(part, order.snapshotPath);
      return { bytes, frozenMs, tookMs: (clock.bootNs() - begunNs) / nsPerMs };
    } catch (error) {
      if (existsSync(mark)) await setLink(record.slot, true).catch(() => undefined); // the instance may have ended, and its link with it
      rmSync(mark, { force: true });
      rmSync(part, { recursive: true, force: true });
      if ((error as { code?: string }).code === 'ENOSPC') throw new Failure('disk-full', 'the disk of the edgepoint is full', { cause: error });
      throw error;
    }
  }

  return {
    snapshot(order: SnapshotOrder): Promise<SnapshotTaken> {
      const begun = under.get(order.snapshotPath) ?? take(order).finally(() => under.delete(order.snapshotPath));
      under.set(order.snapshotPath, begun);
      return begun;
    },
    discard({ snapshotPath }): Promise<void> {
      rmSync(`${snapshotPath}.part`, { recursive: true, force: true });
      rmSync(snapshotPath, { recursive: true, force: true });
      return Promise.resolve();
    },
  };
}

function dumpFailure(logFile: string, stderr: string): Failure {
  const log = existsSync(logFile) ? readFileSync(logFile, 'utf8') : '';
  const failure = explainCriuLog(log + stderr);
  return new Failure(failure.code, `it could not be snapshotted: ${failure.text}`, { remedy: failure.evidence });
}

async function folderBytes(folder: string): Promise<number> {
  const child = Bun.spawn(['du', '--summarize', '--bytes', folder], { stdout: 'pipe', stderr: 'ignore' });
  return Number((await new Response(child.stdout).text()).split('\t')[0]);
}
