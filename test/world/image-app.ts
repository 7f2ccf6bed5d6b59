import { execFileSync } from 'node:child_process';
import { chownSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const libraries = ['/lib64/ld-linux-x86-64.so.2', '/lib/x86_64-linux-gnu/libc.so.6'];

const run = (program: string, args: readonly string[]): string => execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/**
 * An image of three layers, built from what the machine has: a C library, a program (image-server.c), a user; a file that a higher layer takes
 * away, and a link in the place of /dev. Gives the folder of its OCI layout, whose image is called `v1`.
 */
export function buildImage(folder: string, options: { mark?: string; architecture?: string } = {}): string {
  const layout = join(folder, 'layout');
  const lower = join(folder, 'lower');
  const upper = join(folder, 'upper');
  for (const path of libraries) place(path, join(lower, path));
  for (const path of ['etc', 'home/web', 'srv/app', 'tmp']) mkdirSync(join(lower, path), { recursive: true });
  writeFileSync(join(lower, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n');
  writeFileSync(join(lower, 'etc/group'), 'root:x:0:\nweb:x:1001:\nmail:x:8:other,web\n');
  chownSync(join(lower, 'home/web'), 1000, 1001);
  writeFileSync(join(lower, 'srv/app/gone'), 'of the lower layer');
  symlinkSync('/etc', join(lower, 'dev'));
  mkdirSync(join(upper, 'srv/app'), { recursive: true });
  run('gcc', ['-O1', '-o', join(upper, 'srv/app/server'), join(import.meta.dirname, 'image-server.c')]);
  writeFileSync(join(upper, 'srv/app/second'), options.mark ?? 'one');
  const image = `${layout}:v1`;
  run('umoci', ['init', '--layout', layout]);
  run('umoci', ['new', '--image', image]);
  run('umoci', ['insert', '--image', image, lower, '/']);
  run('umoci', ['insert', '--image', image, '--whiteout', '/srv/app/gone']);
  run('umoci', ['insert', '--image', image, upper, '/']);
  const config = {
    user: 'web', workingdir: '/srv/app/data', entrypoint: './../server', cmd: 'from-the-image', env: `MARK=${options.mark ?? 'one'}`, exposedports: '8080/tcp',
  };
  run('umoci', ['config', '--image', image, '--os', 'linux', '--architecture', options.architecture ?? 'amd64', ...Object.entries(config).flatMap(([key, value]) => [`--config.${key}`, value])]);
  run('umoci', ['gc', '--layout', layout]);
  return layout;
}

function place(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

/** Copies an image by skopeo, between any of its transports. */
export const copyImage = (from: string, to: string): string => run('skopeo', ['--insecure-policy', 'copy', '--quiet', '--dest-tls-verify=false', '--src-tls-verify=false', from, to]);
