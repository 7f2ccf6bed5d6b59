import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { Failure } from '../../kit/errors.ts';
import { toolsFolder } from '../../host/tools.ts';
import { requireCommand, retryCommand } from './command.ts';
import { buildAside } from './debian-extract.ts';
import { installMissing } from './debian-packages.ts';

/** Debian's source, by the digest of the one archive that the patches were made for. */
const source = { suite: 'forky', version: '4.2.1', sha256: '29ec0ee09e296479fe7048c80980e8ef1d0684d0b0204c2b101dfea19f6725b9' } as const;
const archiveName = `criu_${source.version}.orig.tar.xz`;

/** What CRIU's Makefile asks for, and what unpacks its source. */
const packages = [
  'libcap-dev', 'libnet1-dev', 'libnl-3-dev', 'libprotobuf-c-dev', 'libprotobuf-dev', 'make', 'patch', 'pkg-config', 'protobuf-c-compiler', 'protobuf-compiler', 'uuid-dev', 'xz-utils',
] as const;

/**
 * One static program: no library has to stay installed, and a fork of it has a tenth of the mappings to copy. The Makefile has no
 * name for flags of the last link alone but that of its profiler's; LDFLAGS would reach the code that CRIU puts into processes too.
 */
const makeFlags = ['GMONLDOPT=-static', 'NO_GNUTLS=1'] as const;

const patchFolder = join(import.meta.dirname, 'criu-patches');
const patches = readdirSync(patchFolder)
  .filter((name) => name.endsWith('.patch'))
  .toSorted()
  .map((name) => join(patchFolder, name));

/** All that decides how the program looks. */
export const patchedCriuRecipe = JSON.stringify([source, makeFlags, patches.map((path) => readFileSync(path, 'utf8'))]);

/** What it says its version is, and the fingerprints of snapshots with it: `4.2.1.edgepoint-...`. */
const version = `${source.version}.edgepoint-${createHash('sha256').update(patchedCriuRecipe).digest('hex').slice(0, 12)}`;
export const patchedCriu = join(toolsFolder, `bin/criu-${version}`);

const unusedDays = 7;

/** Builds it unless it is there. */
export async function buildPatchedCriu(say: (text: string) => void): Promise<void> {
  if (existsSync(patchedCriu)) return;
  await installMissing(packages, say);
  await buildAside(async (folder) => {
    const archive = await fetchArchive(folder, say);
    const tree = join(folder, 'source');
    const remedy = 'Remove the tools folder and start again.';
    mkdirSync(tree);
    await requireCommand(['tar', '-xf', archive, '-C', tree, '--strip-components=1', '--no-same-owner'], 'criu-not-unpacked', remedy);
    for (const path of patches) await requireCommand(['patch', '--silent', '--strip=1', `--directory=${tree}`, `--input=${path}`], 'criu-not-patched', remedy);
    say(`compiling criu ${source.version} with ${patches.length} patches of our own (about a minute)`);
    const jobs = `-j${availableParallelism()}`;
    await requireCommand(['make', '--silent', '-C', tree, jobs, `CRIU_VERSION=${version}`, ...makeFlags, 'criu'], 'criu-not-compiled', 'The compiler names the line above.');
    const program = join(tree, 'criu/criu');
    await requireCommand(['strip', program], 'criu-not-compiled', remedy);
    chmodSync(program, 0o755);
    renameSync(program, patchedCriu);
  });
  removeOld();
}

/** The archive, fetched by an apt of its own: apt checks Debian's signature, and the machine's own lists and sources stay as they are. */
async function fetchArchive(folder: string, say: (text: string) => void): Promise<string> {
  const apt = join(folder, 'apt');
  for (const path of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(apt, path), { recursive: true });
  writeFileSync(join(apt, 'sources.list'), `deb-src http://deb.debian.org/debian ${source.suite} main\n`);
  const settings = {
    'Dir::State::lists': join(apt, 'lists'),
    'Dir::Cache': join(apt, 'cache'),
    'Dir::Etc::sourcelist': join(apt, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Acquire::Check-Valid-Until': 'false',
    'Acquire::Languages': 'none',
    'APT::Update::Error-Mode': 'any',
  };
  const config = join(apt, 'apt.conf');
  writeFileSync(config, Object.entries(settings).map(([name, value]) => `${name} "${value}";\n`).join(''));
  const wish = { code: 'criu-not-fetched', remedy: 'See whether http://deb.debian.org is reachable from here.', say };
  say(`fetching the source of criu ${source.version} from Debian ${source.suite}`);
  await retryCommand(['apt-get', '--config-file', config, '--quiet', 'update'], wish);
  // apt-get(8) writes into the current folder and names none else.
  await retryCommand(['sh', '-c', 'cd "$1" && shift && exec "$@"', 'sh', folder, 'apt-get', '--config-file', config, '--quiet', '--download-only', '--tar-only', 'source', 'criu'], wish);
  const archive = join(folder, archiveName);
  if (!existsSync(archive)) {
    throw new Failure('criu-source-moved', `Debian ${source.suite} has another version of criu's source than ${source.version}.`, { remedy: 'Nothing: a newer Edgepoint has patches for it.' });
  }
  const digest = createHash('sha256').update(readFileSync(archive)).digest('hex');
  if (digest !== source.sha256) throw new Failure('criu-source-differs', `${archiveName} is not the archive that the patches are for: its SHA-256 is ${digest}.`);
  return archive;
}

/** Those of other commits, when nobody made one for a while. */
function removeOld(): void {
  const folder = join(toolsFolder, 'bin');
  const oldest = Date.now() - unusedDays * 86_400_000;
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (name.includes('.edgepoint-') && name !== basename(patchedCriu) && statSync(path).mtimeMs < oldest) rmSync(path);
  }
}
