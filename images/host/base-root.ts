import { existsSync, mkdirSync, renameSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { tools, toolsFolder } from '../../host/tools.ts';
import { requireCommand, retryCommand, runCommand } from './command.ts';
import { buildAside } from './debian-extract.ts';
import type { Step } from './step.ts';

const suite = 'trixie';
const packages = ['libstdc++6', 'ca-certificates'];
/** Node's own build, which the npm registry carries: Debian's is split into thirty libraries, and a snapshot of it is a third larger and wakes a quarter slower. */
const node = { package: `node-linux-${process.arch}`, version: '20.20.2' };
/** What an instance never reads: package lists and archives, manuals, logs. The folders stay, their contents go. */
const emptied = ['var/lib/apt/lists', 'var/cache/apt', 'var/log', 'usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/info'];
/** Where the box mounts things; made here because the base is read-only below instances. */
const mountPoints = ['app', 'proc', 'sys', 'dev', 'run', 'tmp'];

export const baseRoot: Step = {
  name: 'base root filesystem',
  recipe: JSON.stringify({ suite, packages, node, emptied, mountPoints }),
  takeOver: false,
  missing: async () => {
    if (!existsSync(join(tools.baseRoot, 'usr/bin'))) return 'not there';
    const answer = await runCommand(['chroot', tools.baseRoot, '/usr/local/bin/node', '--version']);
    return answer.exitCode === 0 ? null : 'its node does not run';
  },
  make: async (say) => {
    await removeOldRoots();
    return buildAside(async (folder) => {
      const root = join(folder, 'base');
      say('mmdebstrap makes a Debian 13 root with Node 20 (about 30 s)');
      await retryCommand(['mmdebstrap', '--quiet', '--variant=minbase', `--include=${packages.join(',')}`, suite, root], {
        code: 'mmdebstrap-failed',
        remedy: 'See whether http://deb.debian.org is reachable from here and whether /var/lib has 1 GB free, then start again.',
        say,
        before: async () => rmSync(root, { recursive: true, force: true }),
      });
      for (const path of emptied) emptyFolder(join(root, path));
      for (const path of mountPoints) mkdirSync(join(root, path), { recursive: true });
      await placeNode(folder, root, say);
      const version = (await requireCommand(['chroot', root, '/usr/local/bin/node', '--version'], 'base-root-broken', 'Remove the tools folder and start again.')).trim();
      await swapIn(root);
      return `Debian 13 with Node ${version}`;
    });
  },
};

async function placeNode(folder: string, root: string, say: (text: string) => void): Promise<void> {
  await retryCommand(['npm', 'pack', '--silent', '--pack-destination', folder, `${node.package}@${node.version}`], {
    code: 'node-not-fetched',
    remedy: 'Node comes from the npm registry; check that it can be reached, then start again.',
    say,
  });
  const archive = join(folder, `${node.package}-${node.version}.tgz`);
  const remedy = 'See whether /var/lib has 1 GB free, then start again.';
  await requireCommand(['tar', '-xzf', archive, '-C', join(root, 'usr/local'), '--strip-components=1', '--no-same-owner', 'package/bin/node'], 'node-not-unpacked', remedy);
}

function emptyFolder(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true, force: true });
}

/** Running instances may still have the old root below them: it moves aside and is removed when nothing is mounted from it. */
async function swapIn(root: string): Promise<void> {
  if (existsSync(tools.baseRoot)) renameSync(tools.baseRoot, join(toolsFolder, `base.old-${Date.now()}`));
  renameSync(root, tools.baseRoot);
  await removeOldRoots();
}

async function removeOldRoots(): Promise<void> {
  const worldsAreUp = existsSync('/run/edgepoint') && readdirSync('/run/edgepoint', { withFileTypes: true }).some((entry) => entry.isDirectory());
  if (worldsAreUp) return;
  for (const name of readdirSync(toolsFolder)) {
    if (name.startsWith('base.old-')) rmSync(join(toolsFolder, name), { recursive: true, force: true });
  }
}
