import { existsSync, mkdirSync, renameSync, readdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { tools } from '../../host/tools.ts';
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

/** All that decides how a base root looks; a root that is built like it adds its own to it. */
export const baseContents = { suite, packages, node, emptied, mountPoints };

export const baseRoot: Step = {
  name: 'base root filesystem',
  recipe: JSON.stringify(baseContents),
  takeOver: false,
  missing: async () => {
    if (!existsSync(join(tools.baseRoot, 'usr/bin'))) return 'not there';
    const answer = await runCommand(['chroot', tools.baseRoot, '/usr/local/bin/node', '--version']);
    return answer.exitCode === 0 ? null : 'its node does not run';
  },
  make: async (say) => {
    await removeOldRoots(tools.baseRoot);
    return buildAside(async (folder) => {
      const root = join(folder, 'base');
      say('mmdebstrap makes a Debian 13 root with Node 20 (about 30 s)');
      await makeDebianRoot({ root, packages, say });
      await placeNode({ folder, root, version: node.version, name: 'node', say });
      const version = (await requireCommand(['chroot', root, '/usr/local/bin/node', '--version'], 'base-root-broken', 'Remove the tools folder and start again.')).trim();
      await swapIn(root, tools.baseRoot);
      return `Debian 13 with Node ${version}`;
    });
  },
};

/** A minimal Debian root with these packages, without what an instance never reads and with all that the box mounts on. */
export async function makeDebianRoot(wish: { root: string; packages: readonly string[]; mmdebstrapOptions?: readonly string[]; say: (text: string) => void }): Promise<void> {
  const { root, say } = wish;
  await retryCommand(['mmdebstrap', '--quiet', '--variant=minbase', ...(wish.mmdebstrapOptions ?? []), `--include=${wish.packages.join(',')}`, suite, root], {
    code: 'mmdebstrap-failed',
    remedy: 'See whether http://deb.debian.org is reachable from here and whether /var/lib has 1 GB free, then start again.',
    say,
    before: async () => rmSync(root, { recursive: true, force: true }),
  });
  for (const path of emptied) emptyFolder(join(root, path));
  for (const path of mountPoints) mkdirSync(join(root, path), { recursive: true });
}

/** Fetches a Node from the npm registry into `folder` and places its program in the root as /usr/local/bin/NAME. */
export async function placeNode(wish: { folder: string; root: string; version: string; name: string; say: (text: string) => void }): Promise<void> {
  await retryCommand(['npm', 'pack', '--silent', '--pack-destination', wish.folder, `${node.package}@${wish.version}`], {
    code: 'node-not-fetched',
    remedy: 'Node comes from the npm registry; check that it can be reached, then start again.',
    say: wish.say,
  });
  const archive = join(wish.folder, `${node.package}-${wish.version}.tgz`);
  const remedy = 'See whether /var/lib has 1 GB free, then start again.';
  const bin = join(wish.root, 'usr/local/bin');
  await requireCommand(['tar', '-xzf', archive, '-C', bin, '--strip-components=2', '--no-same-owner', `--transform=s:/node$:/${wish.name}:`, 'package/bin/node'], 'node-not-unpacked', remedy);
}

function emptyFolder(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true, force: true });
}

/** Running instances may still have the old root below them: it moves aside and is removed when nothing is mounted from it. */
export async function swapIn(root: string, place: string): Promise<void> {
  if (existsSync(place)) renameSync(place, `${place}.old-${Date.now()}`);
  renameSync(root, place);
  await removeOldRoots(place);
}

export async function removeOldRoots(place: string): Promise<void> {
  const worldsAreUp = existsSync('/run/edgepoint') && readdirSync('/run/edgepoint', { withFileTypes: true }).some((entry) => entry.isDirectory());
  if (worldsAreUp) return;
  for (const name of readdirSync(dirname(place))) {
    if (name.startsWith(`${basename(place)}.old-`)) rmSync(join(dirname(place), name), { recursive: true, force: true });
  }
}
