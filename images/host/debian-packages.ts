import { chmodSync, existsSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { Failure } from '../../kit/errors.ts';
import { retryCommand, runCommand } from './command.ts';
import type { Step } from './step.ts';

/** What the set-up, the daemons and the tests call by name. */
export const worldPackages = [
  'ca-certificates', 'curl', 'e2fsprogs', 'gcc', 'iproute2', 'iptables', 'knot-dnsutils', 'kmod', 'libc6-dev', 'libzstd-dev', 'mmdebstrap', 'nftables', 'procps', 'runc', 'umoci', 'unbound', 'util-linux',
] as const;

/** What only tests use: an ACME authority, a browser with the tool that tells it whom to trust, and a registry of images with the tool that fills it. */
export const testPackages = ['busybox-static', 'chromium', 'docker-registry', 'libnss3-tools', 'pebble', 'skopeo'] as const;

/** Peers that benchmarks run beside us. */
export const peerPackages = ['haproxy', 'libnginx-mod-stream', 'nghttp2-client', 'nginx-light', 'podman', 'wrk'] as const;

const policyPath = '/usr/sbin/policy-rc.d';
const policySavedPath = '/usr/sbin/policy-rc.d.edgepoint-saved';
const policyMark = '# written by the set-up of edgepoint for the time of one apt-get install';

export const debianPackages = packagesStep('Debian packages', worldPackages);
export const debianForTests = packagesStep('Debian packages for tests', testPackages);
export const debianPeers = packagesStep('Debian packages of peers', peerPackages);

function packagesStep(name: string, packages: readonly string[]): Step {
  return {
    name,
    recipe: packages.join(' '),
    takeOver: true,
    missing: async () => {
      restorePolicy();
      const missing = await missingPackages(packages);
      return missing.length === 0 ? null : `not installed: ${missing.join(' ')}`;
    },
    make: async (say) => {
      const installed = await installMissing(packages, say);
      return installed.length === 0 ? 'all installed' : `installed ${installed.join(' ')}`;
    },
  };
}

/** Installs those that are not there; returns their names. Starts no service. */
export async function installMissing(packages: readonly string[], say: (text: string) => void): Promise<readonly string[]> {
  const missing = await missingPackages(packages);
  if (missing.length === 0) return missing;
  say(`apt-get install ${missing.join(' ')}`);
  await withoutServices(() => install(missing, say));
  const still = await missingPackages(packages);
  if (still.length > 0) throw new Failure('packages-missing', `apt-get succeeded but these are not installed: ${still.join(' ')}`);
  return missing;
}

async function missingPackages(packages: readonly string[]): Promise<string[]> {
  const result = await runCommand(['dpkg-query', '--show', '--showformat', '${Package} ${db:Status-Abbrev}\n', ...packages]);
  if (result.exitCode === 127) {
    throw new Failure('not-debian', 'dpkg-query is not here, so this is no Debian machine.', { remedy: 'Use Debian 12 or 13, for instance in a virtual machine.' });
  }
  const installed = new Set(result.output.split('\n').flatMap((line) => (line.split(' ')[1]?.startsWith('ii') ? [line.split(' ')[0]] : [])));
  return packages.filter((name) => !installed.has(name));
}

async function install(names: readonly string[], say: (text: string) => void): Promise<void> {
  let listsFresh = packageListsAreFresh();
  await retryCommand(['apt-get', 'install', '--yes', '--quiet', '--no-install-recommends', ...names], {
    code: 'apt-failed',
    remedy: 'See whether `apt-get update` and `apt-get install` work by hand (mirror reachable, dpkg not interrupted), then start again.',
    say,
    before: async () => {
      if (!listsFresh) await retryCommand(['apt-get', 'update', '--quiet'], { code: 'apt-failed', remedy: 'See whether the mirrors in /etc/apt are reachable from here.', say });
      // Lists may be old enough to name versions that the mirror has dropped: a second attempt begins by renewing them.
      listsFresh = false;
    },
  });
}

const dayMs = 24 * 3600 * 1000;

function packageListsAreFresh(): boolean {
  const folder = '/var/lib/apt/lists';
  if (!existsSync(folder)) return false;
  const lists = readdirSync(folder).filter((name) => name.includes('_Packages'));
  return lists.length > 0 && Date.now() - statSync(folder).mtimeMs < dayMs;
}

/** Installs must start no system service: invoke-rc.d(8) asks policy-rc.d, and 101 forbids. Whatever policy stood there comes back. */
async function withoutServices(work: () => Promise<void>): Promise<void> {
  if (existsSync(policyPath)) renameSync(policyPath, policySavedPath);
  writeFileSync(policyPath, `#!/bin/sh\n${policyMark}\nexit 101\n`);
  chmodSync(policyPath, 0o755);
  try {
    await work();
  } finally {
    restorePolicy();
  }
}

/** Also after a set-up that was killed between the two. */
function restorePolicy(): void {
  if (existsSync(policyPath) && policyIsOurs()) rmSync(policyPath);
  if (existsSync(policySavedPath)) renameSync(policySavedPath, policyPath);
}

function policyIsOurs(): boolean {
  const file = Bun.spawnSync(['grep', '-qF', policyMark, policyPath]);
  return file.exitCode === 0;
}
