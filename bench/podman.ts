import { existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { tools } from '../host/tools.ts';
import { firstByte } from './engine.ts';
import { openNetwork } from './peer-network.ts';

/** A peer: the same app restored by `podman container restore`, as it comes, with CRIU as it comes and a ready network namespace. */
export interface PodmanPeer {
  /** Restores once and waits for the first byte; milliseconds of both. The stop is not counted. */
  restore(): Promise<number>;
  close(): void;
}

/**
 * Boots the app under podman (with runc), checkpoints it, and stands ready to restore it. A string when that cannot be done on this
 * machine: podman's own words.
 */
export async function openPodmanPeer(options: { artefact: string; folder: string; command: readonly string[]; port: number; address: string; prefixLength: number }): Promise<PodmanPeer | string> {
  const { folder, address, port } = options;
  const podmanPath = Bun.which('podman');
  if (podmanPath === null) return 'podman is not installed here (apt-get install podman)';
  const rootfs = join(folder, 'rootfs');
  for (const name of ['rootfs', 'upper', 'work', 'bin', 'store', 'run']) mkdirSync(join(folder, name), { recursive: true });
  symlinkSync(tools.peerCriu, join(folder, 'bin/criu')); // podman finds criu in PATH
  const network = openNetwork(`podman-${process.pid}`, 'podman0', { address, prefixLength: options.prefixLength });
  const podman = (...words: string[]): { ok: boolean; text: string } => {
    const done = Bun.spawnSync([podmanPath, '--root', join(folder, 'store'), '--runroot', join(folder, 'run'), '--cgroup-manager', 'cgroupfs', '--runtime', 'runc', ...words], {
      env: { ...process.env, PATH: `${join(folder, 'bin')}:${process.env['PATH']}` },
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
    });
    return { ok: done.exitCode === 0, text: `${done.stdout}${done.stderr}`.trim() };
  };
  const name = `edgepoint-bench-${process.pid}`;
  const close = (): void => {
    podman('rm', '--force', '--time', '0', name);
    Bun.spawnSync(['umount', '--recursive', join(folder, 'store')], { stderr: 'ignore' });
    Bun.spawnSync(['umount', rootfs], { stderr: 'ignore' });
    /* Podman leaves its parent cgroup; one that holds somebody else's containers cannot be removed, and stays. */
    Bun.spawnSync(['find', '/sys/fs/cgroup', '-depth', '-type', 'd', '-path', '*/libpod_parent*', '-exec', 'rmdir', '{}', ';'], { stderr: 'ignore' });
    network.close();
  };
  const refuse = (what: string, text: string): string => {
    close();
    return `${what}: ${text.split('\n').slice(-3).join(' / ')}`;
  };
  const mounted = Bun.spawnSync(['mount', '-t', 'overlay', '-o', `lowerdir=${options.artefact}:${tools.baseRoot},upperdir=${join(folder, 'upper')},workdir=${join(folder, 'work')}`, 'edgepoint-bench', rootfs]);
  if (mounted.exitCode !== 0) return refuse('mount', mounted.stderr.toString());
  /* The limits of files and processes are named because podman's own are above what this machine may give. */
  const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'];
  const run = podman('run', '--detach', '--name', name, ...limits, '--network', `ns:${network.path}`, '--workdir', '/app', '--env', `PORT=${port}`, '--rootfs', rootfs, ...options.command);
  if (!run.ok) return refuse('podman run', run.text);
  await firstByte(address, port);
  const checkpoint = podman('container', 'checkpoint', '--keep', '--tcp-established', name);
  if (!checkpoint.ok) return refuse('podman container checkpoint', checkpoint.text);
  const restored = podman('container', 'restore', '--keep', '--tcp-established', name);
  if (!restored.ok) return refuse('podman container restore', restored.text);
  podman('stop', '--time', '0', name);
  return {
    async restore(): Promise<number> {
      const begunMs = performance.now();
      const done = podman('container', 'restore', '--keep', '--tcp-established', name);
      if (!done.ok) throw new Error(`podman container restore: ${done.text}${lastErrors(folder)}`);
      await firstByte(address, port);
      const tookMs = performance.now() - begunMs;
      podman('stop', '--time', '0', name);
      return tookMs;
    },
    close,
  };
}

function lastErrors(folder: string): string {
  const found = Bun.spawnSync(['find', join(folder, 'store'), '-name', 'restore.log']).stdout.toString().trim().split('\n')[0] ?? '';
  return existsSync(found) ? ` (${readFileSync(found, 'utf8').split('\n').filter((line) => line.includes('Error')).join(' | ')})` : '';
}
