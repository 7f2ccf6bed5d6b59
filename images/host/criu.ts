import { chmodSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Failure, messageOf } from '../../kit/errors.ts';
import { tools, toolsFolder } from '../../host/tools.ts';
import { requireCommand, runCommand } from './command.ts';
import { buildPatchedCriu, patchedCriu, patchedCriuRecipe } from './criu-build.ts';
import { buildAside, extractDebian } from './debian-extract.ts';
import type { Step } from './step.ts';

const prefix = join(toolsFolder, 'criu-prefix');
const probeSource = join(import.meta.dirname, 'criu-probe.c');
const probeScript = join(import.meta.dirname, 'criu-probe.sh');
const suite = 'forky';

/**
 * The first of these that really dumps and restores here: one built with our patches, the machine's own, Debian's in a prefix of its
 * own. They do the same, the first one faster. The kernel decides what a criu can do, so its release is part of the recipe: a new
 * kernel is probed again.
 */
export const criu: Step = {
  name: 'criu',
  recipe: [kernelRelease(), suite, patchedCriuRecipe, readFileSync(probeSource, 'utf8'), readFileSync(probeScript, 'utf8')].join('\n'),
  takeOver: false,
  missing: async () => {
    if (!existsSync(tools.criu)) return 'not there';
    const version = await runCommand([tools.criu, '--version']);
    return version.exitCode === 0 ? null : 'it does not run';
  },
  make: async (say) => {
    const patched = await probePatched(say);
    if (patched.works) return patched.text;
    say(`${patched.text}: taking one without our patches, which does the same, slower`);
    return `${await makeUnpatched(tools.criu, patched.text, say)}; without our patches, because ${patched.text}`;
  },
};

/** What peers of benchmarks dump and restore with: CRIU as it comes, and with nftables, which ours has no use for. */
export const peerCriu: Step = {
  name: 'criu of peers',
  recipe: [kernelRelease(), suite].join('\n'),
  takeOver: false,
  missing: async () => (existsSync(tools.peerCriu) ? null : 'not there'),
  make: (say) => makeUnpatched(tools.peerCriu, 'peers take none', say),
};

async function makeUnpatched(place: string, whyUnpatched: string, say: (text: string) => void): Promise<string> {
  const ownReport = await probeOwn(place, say);
  if (ownReport.works) return ownReport.text;
  // One that an earlier set-up made may work on this kernel as it is.
  if (existsSync(join(prefix, 'usr/sbin/criu'))) {
    const kept = await placeIfItWorks(place, wrapperText(), say);
    if (kept === null) return `${await versionOf(place)} in a prefix of its own (kept), because ${ownReport.text}`;
  }
  return buildAside(async (folder) => {
    const root = join(folder, 'criu');
    say(`unpacking criu of Debian ${suite}, because ${ownReport.text}`);
    await extractDebian({ suite, packages: ['criu'], folder: root, say, aptOptions: ['Acquire::Check-Valid-Until "false"'] });
    rmSync(prefix, { recursive: true, force: true });
    renameSync(root, prefix);
    const why = await placeIfItWorks(place, wrapperText(), say);
    if (why !== null) {
      throw new Failure('no-working-criu', `No criu works on this kernel (${kernelRelease()}). With our patches: ${whyUnpatched}. The machine's own: ${ownReport.text}. Debian ${suite}'s: ${why}.`, {
        remedy: 'Snapshots need a kernel with CONFIG_CHECKPOINT_RESTORE and a machine (not an unprivileged container) that lets root use it: see whether `criu check` names what is missing.',
      });
    }
    return `${await versionOf(place)} of Debian ${suite} in a prefix of its own, because ${ownReport.text}`;
  });
}

function kernelRelease(): string {
  return readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
}

async function probePatched(say: (text: string) => void): Promise<{ works: boolean; text: string }> {
  try {
    await buildPatchedCriu(say);
  } catch (error) {
    say(messageOf(error));
    return { works: false, text: `it could not be built here (${messageOf(error).trimEnd().split('\n').at(-1)?.trim() ?? ''})` };
  }
  const why = await placeIfItWorks(tools.criu, wrapperOf(patchedCriu), say);
  return why === null
    ? { works: true, text: `${await versionOf(patchedCriu)}, built here from Debian's source with our patches: it dumped and restored a probe process` }
    : { works: false, text: `it ${why}` };
}

async function probeOwn(place: string, say: (text: string) => void): Promise<{ works: boolean; text: string }> {
  const own = Bun.which('criu', { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin' });
  if (own === null) return { works: false, text: 'this machine has no criu' };
  const version = await versionOf(own);
  const why = await placeIfItWorks(place, wrapperOf(own), say);
  return why === null
    ? { works: true, text: `${version}, this machine's own: it dumped and restored a probe process` }
    : { works: false, text: `this machine's own (${version}) ${why}` };
}

const wrapperOf = (program: string): string => `#!/bin/sh\nexec ${program} "$@"\n`;

/** Its own libraries through its own loader: the machine's libc may be older than this criu needs. */
function wrapperText(): string {
  const libraries = join(prefix, `usr/lib/${multiarch()}`);
  return `#!/bin/sh\nexec ${join(libraries, loaderName())} --library-path ${libraries} ${join(prefix, 'usr/sbin/criu')} "$@"\n`;
}

const multiarch = (): string => (process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu');
const loaderName = (): string => (process.arch === 'arm64' ? 'ld-linux-aarch64.so.1' : 'ld-linux-x86-64.so.2');

export async function versionOf(program: string): Promise<string> {
  const result = await runCommand([program, '--version']);
  return /Version:\s*(\S+)/.exec(result.output)?.[1] ?? 'of unknown version';
}

/** Puts a wrapper in place when the criu behind it really dumps and restores; otherwise says what it could not do. */
async function placeIfItWorks(place: string, wrapper: string, say: (text: string) => void): Promise<string | null> {
  const aside = `${place}.new-${process.pid}`;
  writeFileSync(aside, wrapper);
  chmodSync(aside, 0o755);
  try {
    say('a probe process is dumped and restored');
    const why = await probeCriu(aside);
    if (why === null) renameSync(aside, place);
    return why;
  } finally {
    rmSync(aside, { force: true });
  }
}

/** Null when a dump and a restore succeeded, else where it failed and criu's own words. */
export async function probeCriu(program: string): Promise<string | null> {
  const work = mkdtempSync(join(tmpdir().startsWith('/run') ? '/var/tmp' : tmpdir(), 'edgepoint-criu-'));
  try {
    const binary = join(work, 'criu-probe');
    await requireCommand(['gcc', '-O2', '-Wall', '-static', '-o', binary, probeSource], 'probe-not-compiled', 'The set-up installs gcc and libc6-dev: see the lines above.');
    const result = await runCommand(
      ['unshare', '--pid', '--mount', '--net', '--fork', '--kill-child', '--mount-proc', 'sh', probeScript, program, binary, work],
      { timeoutMs: 30_000 },
    );
    if (result.exitCode === 0) return null;
    return `failed at ${readText(join(work, 'step')).trim() || 'the start'}: ${lastErrors(work, result.output)}`;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function lastErrors(work: string, output: string): string {
  const texts = ['images/dump.log', 'images/restore.log', 'criu.log', 'probe.log'].map((name) => readText(join(work, name)));
  const lines = [...texts.join('\n').split('\n'), ...output.split('\n')].filter((line) => line.trim() !== '');
  return lines.filter((line) => line.includes('Error')).slice(-2).join(' / ') || lines.slice(-2).join(' / ') || 'it said nothing';
}

function readText(path: string): string {
  return existsSync(path) && statSync(path).isFile() ? readFileSync(path, 'utf8') : '';
}
