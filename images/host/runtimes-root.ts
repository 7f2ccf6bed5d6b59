import { copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { tools } from '../../host/tools.ts';
import { baseContents, makeDebianRoot, placeNode, removeOldRoots, swapIn } from './base-root.ts';
import { requireCommand, runCommand } from './command.ts';
import { buildAside } from './debian-extract.ts';
import { compilePrograms, programsRecipe } from './runtime-programs.ts';
import type { Step } from './step.ts';

/** Beside what every base has. */
const packages = ['python3', 'openjdk-21-jre-headless', 'redis-server', 'postgresql', 'nginx-light', 'openssl', 'libatomic1'];
/** Other Nodes than the base's, by the names of their programs. */
const nodes = { node24: '24.21.0', node26: '26.10.0' };
/** Debian's package makes a database cluster when it is installed; tests make their own. */
const noCluster = '--essential-hook=mkdir -p "$1/etc/postgresql-common" && echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.conf"';
/** How each is asked whether it runs, and which it is. */
const versions: Readonly<Record<string, readonly string[]>> = {
  node: ['node', '--version'],
  node24: ['node24', '--version'],
  node26: ['node26', '--version'],
  Bun: ['bun', '--version'],
  Python: ['python3', '--version'],
  Java: ['java', '--version'],
  Redis: ['redis-server', '--version'],
  PostgreSQL: ['/usr/lib/postgresql/17/bin/postgres', '--version'],
  nginx: ['nginx', '-v'],
  OpenSSL: ['openssl', 'version'],
  Go: ['go-server', '--version'],
  'Rust with rand': ['rust-server', '--version'],
};

/**
 * A base root for tests of programs that providers bring along in their artefacts: every runtime and server they try, in one root, so
 * that a test need not pack a gigabyte. Started restored with it as its `baseRoot`, instances have it below them.
 */
export const runtimesRoot: Step = {
  name: 'runtimes root filesystem',
  recipe: JSON.stringify({ baseContents, packages, nodes, noCluster, bun: Bun.version, programs: programsRecipe }),
  takeOver: false,
  missing: async () => {
    if (!existsSync(join(tools.runtimesRoot, 'usr/bin'))) return 'not there';
    const answer = await runCommand(inRoot(tools.runtimesRoot, ['java', '--version']));
    return answer.exitCode === 0 ? null : 'its java does not run';
  },
  make: async (say) => {
    await removeOldRoots(tools.runtimesRoot);
    return buildAside(async (folder) => {
      const root = join(folder, 'runtimes');
      say('mmdebstrap makes a Debian 13 root with runtimes and servers (about two minutes)');
      await makeDebianRoot({ root, packages: [...baseContents.packages, ...packages], mmdebstrapOptions: [noCluster], say });
      for (const [name, version] of Object.entries({ node: baseContents.node.version, ...nodes })) await placeNode({ folder, root, version, name, say });
      copyFileSync(process.execPath, join(root, 'usr/local/bin/bun'));
      await compilePrograms(folder, join(root, 'usr/local/bin'), say);
      const found: string[] = [];
      for (const [name, argv] of Object.entries(versions)) found.push(`${name} ${versionIn(await requireCommand(inRoot(root, argv), 'runtimes-root-broken', 'Remove the tools folder and start again.'))}`);
      await swapIn(root, tools.runtimesRoot);
      return `Debian 13 with ${found.join(', ')}`;
    });
  },
};

/** Java finds its libraries by /proc; the mount goes with its namespace. */
function inRoot(root: string, argv: readonly string[]): string[] {
  return ['unshare', '--mount', 'sh', '-c', 'mount -t proc proc "$1/proc" && exec chroot "$@"', 'sh', root, ...argv];
}

/** The first number with a dot in it. */
function versionIn(text: string): string {
  return /\d+\.\d[\w.]*/.exec(text)?.[0] ?? text;
}
