import { dlopen, ptr } from 'bun:ffi';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readFrozenMs } from '../edgepoint/box/criu-stats.ts';
import { tools } from '../host/tools.ts';
import { firstByte } from './engine.ts';
import { openNetwork } from './peer-network.ts';

const libc = dlopen('libc.so.6', { pipe: { args: ['ptr'], returns: 'i32' } }).symbols;

/** A peer: the same app restored by `runc restore`, with CRIU as it comes, /run on tmpfs, a ready network namespace and a ready root. */
export interface RuncPeer {
  /** Restores once and waits for the first byte; milliseconds of both. The making of the root and the removal are not counted. */
  restore(): Promise<number>;
  /** `runc checkpoint --leave-running` of a restored container: how long it stood still, in milliseconds, by CRIU's own statistics. */
  pause(): Promise<number>;
  close(): void;
}

function run(...command: string[]): string {
  const done = Bun.spawnSync(command, { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' });
  if (done.exitCode !== 0) throw new Error(`${command.join(' ')}: ${done.stderr.toString().trim()}`);
  return done.stdout.toString();
}

/** A pipe, because runc carries a container's stdio over a restore only when it is pipes: [reading end, writing end]. */
function openPipe(): [number, number] {
  const ends = new Int32Array(2);
  if (libc.pipe(ptr(ends)) !== 0) throw new Error('pipe');
  return [ends[0] as number, ends[1] as number];
}

/**
 * Boots the app under runc, checkpoints it, and stands ready to restore it. The container has runc's own defaults but no user
 * namespace, which spares it work. `address` is free in the bridge's subnet.
 */
export async function openRuncPeer(options: {
  artefact: string;
  dev: string;
  folder: string;
  command: readonly string[];
  port: number;
  /**
   * runc's checkpoint has CRIU lock the network, so every restore unlocks it: by iptables, unless a CRIU configuration says otherwise
   * (`default`). Ours cuts the instance's link instead, and only where connections matter.
   */
  networkLock: 'default' | 'nftables' | 'skip';
  address: string;
  prefixLength: number;
}): Promise<RuncPeer> {
  const { folder, address, port } = options;
  const id = `edgepoint-bench-${process.pid}-${options.networkLock}`;
  const rootfs = join(folder, 'rootfs');
  const link = `runc-${options.networkLock}`;
  const netns = `${link}-${process.pid}`;
  for (const name of ['rootfs', 'upper', 'work', 'images', 'criu', 'state']) mkdirSync(join(folder, name), { recursive: true });
  const network = openNetwork(netns, link, { address, prefixLength: options.prefixLength });

  run('runc', 'spec', '--bundle', folder);
  const spec = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  spec.process.terminal = false;
  spec.process.args = options.command;
  spec.process.cwd = '/app';
  spec.process.env = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', `PORT=${port}`];
  spec.root = { path: 'rootfs', readonly: false };
  spec.mounts = [
    { destination: '/proc', type: 'proc', source: 'proc' },
    { destination: '/dev', type: 'bind', source: options.dev, options: ['rbind', 'ro'] },
  ];
  spec.linux.namespaces = spec.linux.namespaces.map((namespace: { type: string }) => (namespace.type === 'network' ? { type: 'network', path: network.path } : namespace));
  /* As for ours: CRIU cannot dump an io_uring, and Node opens one where it may. */
  spec.linux.seccomp = {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['io_uring_setup', 'io_uring_enter', 'io_uring_register'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 }],
  };
  if (options.networkLock !== 'default') {
    writeFileSync(join(folder, 'criu.conf'), `network-lock ${options.networkLock}\n`);
    spec.annotations = { 'org.criu.config': join(folder, 'criu.conf') };
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(spec));

  const [stdin] = openPipe();
  const [, stdout] = openPipe();
  const runc = async (...words: string[]): Promise<void> => {
    const child = Bun.spawn(['runc', '--root', join(folder, 'state'), '--criu', tools.peerCriu, ...words], { stdio: [stdin, stdout, stdout] });
    if ((await child.exited) !== 0) {
      const logs = ['dump.log', 'restore.log'].map((name) => join(folder, 'criu', name)).filter((path) => existsSync(path));
      const errors = logs.flatMap((path) => readFileSync(path, 'utf8').split('\n').filter((line) => line.includes('Error')));
      throw new Error(`runc ${words.join(' ')} failed: ${errors.join(' | ')}`);
    }
  };
  const mountRoot = (upper: string): void => {
    run('mount', '-t', 'overlay', '-o', `lowerdir=${options.artefact}:${tools.baseRoot},upperdir=${join(folder, upper)},workdir=${join(folder, 'work')}`, 'edgepoint-bench', rootfs);
  };
  const close = (): void => {
    /* Also when a round failed half way: its container and cgroups go with it. */
    Bun.spawnSync(['runc', '--root', join(folder, 'state'), 'delete', '--force', id], { stdout: 'ignore', stderr: 'ignore' });
    if (running) run('umount', rootfs);
    network.close();
  };
  try {
    mountRoot('upper');
    await runc('run', '--detach', '--bundle', folder, id);
    await firstByte(address, port);
    await runc('checkpoint', '--image-path', join(folder, 'images'), '--work-path', join(folder, 'criu'), id);
    run('umount', rootfs);
  } catch (error) {
    close(); // whoever opens it has nothing to close yet
    throw error;
  }

  let running = false;
  const begin = async (): Promise<number> => {
    rmSync(join(folder, 'fresh'), { recursive: true, force: true });
    cpSync(join(folder, 'upper'), join(folder, 'fresh'), { recursive: true });
    chmodSync(join(folder, 'fresh'), 0o755);
    mountRoot('fresh');
    const begunMs = performance.now();
    await runc('restore', '--detach', '--image-path', join(folder, 'images'), '--work-path', join(folder, 'criu'), '--bundle', folder, id);
    await firstByte(address, port);
    return performance.now() - begunMs;
  };

  return {
    async restore(): Promise<number> {
      const tookMs = await begin();
      await runc('delete', '--force', id);
      run('umount', rootfs);
      return tookMs;
    },
    async pause(): Promise<number> {
      if (!running) await begin();
      running = true;
      const images = join(folder, 'live');
      rmSync(images, { recursive: true, force: true });
      mkdirSync(images);
      await runc('checkpoint', '--leave-running', '--image-path', images, '--work-path', images, id);
      return readFrozenMs(readFileSync(join(images, 'stats-dump')));
    },
    close,
  };
}
