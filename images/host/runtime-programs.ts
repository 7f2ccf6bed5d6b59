import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { baseContents } from './base-root.ts';
import { requireCommand } from './command.ts';
import { extractDebian } from './debian-extract.ts';

/*
 * Servers of test/programs that are compiled into the runtimes root: their compilers would be a quarter of a gigabyte each. The compilers are
 * those of the same Debian, unpacked aside and thrown away.
 */
const goSource = join(import.meta.dirname, '../../test/programs/go-server.go');
const rustSource = join(import.meta.dirname, '../../test/programs/rust-server.rs');
const rustPackages = ['cargo', 'rustc', 'gcc', 'libc6-dev', 'librust-rand-dev'] as const;

/** Cargo takes its crates from Debian's packages, and asks no network. */
const rustProject = {
  'Cargo.toml': '[package]\nname = "rust-server"\nversion = "0.0.0"\nedition = "2021"\n[features]\nown = []\n[dependencies]\nrand = "0.8"\n[profile.release]\nstrip = true\n',
  'config.toml': '[source.crates-io]\nreplace-with = "debian"\n[source.debian]\ndirectory = "/usr/share/cargo/registry"\n',
} as const;

/** All that decides how the programs look. */
export const programsRecipe = JSON.stringify({ go: readFileSync(goSource, 'utf8'), rust: readFileSync(rustSource, 'utf8'), rustPackages, rustProject });

/** Compiles `go-server`, `rust-server` and `rust-server-own` into a folder of programs; `folder` is for what is thrown away. */
export async function compilePrograms(folder: string, programs: string, say: (text: string) => void): Promise<void> {
  await compileGo(join(folder, 'go'), join(programs, 'go-server'), say);
  await compileRust(join(folder, 'rust'), programs, say);
}

/** Without C the program is static. */
async function compileGo(compiler: string, program: string, say: (text: string) => void): Promise<void> {
  await extractDebian({ suite: baseContents.suite, packages: ['golang-go'], folder: compiler, say });
  copyFileSync(goSource, join(compiler, 'tmp/go-server.go'));
  const build = ['/usr/lib/go-1.24/bin/go', 'build', '-trimpath', '-o', '/tmp/go-server', '/tmp/go-server.go'];
  const environment = { HOME: '/tmp', GOROOT: '/usr/lib/go-1.24', CGO_ENABLED: '0', GO111MODULE: 'off' };
  await requireCommand(['chroot', compiler, ...build], 'go-not-compiled', 'The compiler names the line above.', environment);
  copyFileSync(join(compiler, 'tmp/go-server'), program);
}

async function compileRust(compiler: string, programs: string, say: (text: string) => void): Promise<void> {
  await extractDebian({ suite: baseContents.suite, packages: rustPackages, folder: compiler, say });
  // These links are of base-files, which is not needed otherwise.
  for (const name of ['lib', 'lib64', 'bin']) if (!existsSync(join(compiler, name))) symlinkSync(`usr/${name}`, join(compiler, name));
  const project = join(compiler, 'tmp/rust-server');
  mkdirSync(join(project, 'src'), { recursive: true });
  for (const [name, text] of Object.entries(rustProject)) writeFileSync(join(project, name), text);
  copyFileSync(rustSource, join(project, 'src/main.rs'));
  const environment = { HOME: '/tmp', PATH: '/usr/sbin:/usr/bin:/sbin:/bin', CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER: 'gcc' };
  for (const [name, features] of [['rust-server', []], ['rust-server-own', ['--features', 'own']]] as const) {
    const build = ['/usr/bin/cargo', 'build', '--release', '--offline', '--quiet', '--config', '/tmp/rust-server/config.toml'];
    const where = ['--manifest-path', '/tmp/rust-server/Cargo.toml', '--target-dir', `/tmp/${name}-built`];
    await requireCommand(['chroot', compiler, ...build, ...where, ...features], 'rust-not-compiled', 'The compiler names the line above.', environment);
    copyFileSync(join(compiler, 'tmp', `${name}-built`, 'release/rust-server'), join(programs, name));
  }
}
