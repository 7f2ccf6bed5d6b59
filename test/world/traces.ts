import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Everything on this machine that carries a world's id, found by plain means of its own: a test must not trust the code that
 * it tests to say that nothing is left.
 */
export function tracesOf(id: string): string[] {
  return [
    ...namesIn('/run/netns', `ep-${id}-`).map((name) => `netns ${name}`),
    ...namesIn('/sys/class/net', `ep-${id}-`).map((name) => `link ${name}`),
    ...lines(readFileSync('/proc/self/mountinfo', 'utf8')).filter((line) => line.includes(`/${id}/`) || line.includes(`ep-${id}-`)).map((line) => `mount ${line}`),
    // Other worlds' folders vanish while it looks; then it says so, and its exit code is 1.
    ...lines(spawnSync('find', ['/sys/fs/cgroup', '-maxdepth', '3', '-type', 'd', '-name', `*${id}*`], { encoding: 'utf8' }).stdout).map((path) => `cgroup ${path}`),
    ...lines(execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' })).filter((line) => line.includes(id)).map((line) => `nft ${line}`),
    ...lines(execFileSync('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE'], { encoding: 'utf8' })).filter((line) => line.includes(`/${id}/`)).map((line) => `loop ${line}`),
    ...processesOf(id),
    ...[`/run/edgepoint/${id}`, `/var/lib/edgepoint/worlds/${id}`].filter((path) => existsSync(path)).map((path) => `folder ${path}`),
  ];
}

function processesOf(id: string): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    const environment = read(join('/proc', pid, 'environ')).split('\0');
    const cgroup = read(join('/proc', pid, 'cgroup'));
    // A dead one that its parent has not waited for holds nothing.
    if (/^State:\s+Z/m.test(read(join('/proc', pid, 'status')))) return [];
    return environment.includes(`EDGEPOINT_WORLD=${id}`) || cgroup.includes(`edgepoint-${id}`) ? [`process ${pid} ${read(join('/proc', pid, 'cmdline')).replaceAll('\0', ' ')}`] : [];
  });
}

function namesIn(folder: string, prefix: string): string[] {
  return existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith(prefix)) : [];
}

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // the process ended meanwhile
  }
}
