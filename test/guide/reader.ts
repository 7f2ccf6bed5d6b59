import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, closeSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import { unboundConfig } from '../../world/resolver.ts';
import { runCommand, until } from '../world/faults/fault-world.ts';
import type { FaultWorld } from '../world/faults/fault-world.ts';
import { bunPath } from '../world/held-world.ts';
import { missingLine } from './page.ts';
import type { Step } from './page.ts';

const repository = join(import.meta.dirname, '../..');

/** Somebody who reads the guide: a network namespace, a resolver, an empty home and a shell in an empty folder, with the command `conduit`. */
export interface Reader {
  /** Of the conduit, from there. */
  readonly conduitUrl: string;
  /** Begins Chromium in that namespace, with that resolver. */
  readonly chromium: string;
  /** Does what a page says, in the shell; fails the test where the page is wrong. Returns what the last command printed. */
  follow(t: Test, steps: readonly Step[]): Promise<string>;
}

/**
 * `world` must have been begun with `--conduit-address 0.0.0.0`. `folderName`: of the folder the shell
 * begins in; `root`: PEM file of an authority that programs there trust.
 */
export async function settleReader(t: Test, world: FaultWorld, name: string, options: { folderName: string; root: string }): Promise<Reader> {
  const { netns, ipv4 } = await world.held.call<{ netns: string; ipv4: string }>('addClient', { name, place: 'berlin' });
  const home = join(world.folder, name);
  const [bin, work] = [join(home, 'bin'), join(home, options.folderName)];
  for (const folder of [bin, work]) mkdirSync(folder, { recursive: true });
  chmodSync(world.folder, 0o755);
  const inside = ['ip', 'netns', 'exec', netns];
  await settleResolver(t, world, { home, ipv4, inside });
  // A private mount namespace, so that nobody else sees this resolv.conf.
  const there = [...inside, 'unshare', '--mount', 'sh', '-c', 'mount --bind "$0" /etc/resolv.conf && exec "$@"', join(home, 'resolv.conf')];
  program(join(bin, 'chromium-there'), `exec ${there.map(quoted).join(' ')} /usr/bin/chromium "$@"`);
  const built = await runCommand([bunPath, 'build', join(repository, 'conduit/cli/main.ts'), '--target=node', '--outfile', join(home, 'conduit.mjs')]);
  if (built.exitCode !== 0) throw new Error(built.stderr);
  chmodSync(join(home, 'conduit.mjs'), 0o755);
  symlinkSync('../conduit.mjs', join(bin, 'conduit'));
  const env = { PATH: `${bin}:${dirname(process.execPath)}:/usr/bin:/bin:/usr/sbin:/sbin`, HOME: home, LC_ALL: 'C.UTF-8', CURL_CA_BUNDLE: options.root };
  const shell = openShell(t, there, { work, home, env });
  return {
    conduitUrl: `http://${defaultGateway(inside)}:${new URL(world.held.description.conduitUrl).port}`,
    chromium: join(bin, 'chromium-there'),
    async follow(t, steps) {
      let printed = '';
      for (const step of steps) {
        if (step.kind === 'file') {
          mkdirSync(dirname(join(work, step.path)), { recursive: true });
          writeFileSync(join(work, step.path), step.text);
          continue;
        }
        const ran = await shell(step.command);
        printed = ran.output;
        t.comment(`$ ${step.command}\n${printed}`);
        t.equal(ran.exitCode, step.exitCode, `line ${step.line}: ${step.command}\n${ran.exitCode === step.exitCode ? '' : printed}`);
        t.equal(missingLine(step.output, printed), null, `line ${step.line} prints what the page says`);
      }
      return printed;
    },
  };
}

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

function program(path: string, text: string): void {
  writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
}

/** The machine that the world is on, as the namespace sees it. */
function defaultGateway(inside: readonly string[]): string {
  const routes = JSON.parse(execFileSync('ip', [...inside.slice(1), 'ip', '-json', '-4', 'route', 'show', 'default']).toString()) as { gateway: string }[];
  return routes[0]?.gateway ?? '';
}

async function settleResolver(t: Test, world: FaultWorld, { home, ipv4, inside }: { home: string; ipv4: string; inside: readonly string[] }): Promise<void> {
  const { dnsAddresses, zoneName } = world.held.description;
  writeFileSync(join(home, 'unbound.conf'), unboundConfig({ listen: [ipv4], clientSubnets: [`${ipv4}/32`], zoneName, dispatchers: dnsAddresses, folder: home }));
  writeFileSync(join(home, 'resolv.conf'), `nameserver ${ipv4}\noptions timeout:2 attempts:2\n`);
  const unbound = spawn('ip', [...inside.slice(1), 'unbound', '-d', '-p', '-c', join(home, 'unbound.conf')], { stdio: 'ignore' });
  const ended = new Promise((resolve) => unbound.once('exit', resolve));
  t.teardown(async () => {
    unbound.kill('SIGTERM');
    await ended;
  });
  await until('the resolver answers', async () => (await runCommand([...inside, 'kdig', `@${ipv4}`, '+short', '+time=1', '+retry=0', zoneName, 'NS'])).stdout.includes(zoneName));
}

/** One bash for all commands: folder, variables and background jobs stay. It ends with the test, and what it began with it. */
function openShell(t: Test, there: readonly string[], { work, home, env }: { work: string; home: string; env: Record<string, string> }) {
  // What the tests' own runner has Node load is nothing of a reader's.
  const bash = spawn(there[0] ?? '', [...there.slice(1), 'env', '--unset=NODE_OPTIONS', 'bash', '--noprofile', '--norc'], { cwd: work, env, stdio: ['pipe', 'pipe', 'ignore'], detached: true });
  const ended = new Promise((resolve) => bash.once('exit', resolve));
  t.teardown(async () => {
    try {
      process.kill(-(bash.pid ?? 0), 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
    await ended;
  });
  let said = '';
  bash.stdout?.on('data', (bytes: Buffer) => (said += bytes.toString()));
  let count = 0;
  return async (command: string): Promise<{ exitCode: number; output: string }> => {
    const [file, output] = [join(home, `command-${(count += 1)}`), join(home, `output-${count}`)];
    writeFileSync(file, `${command}\n`);
    closeSync(openSync(output, 'w'));
    bash.stdin?.write(`. ${quoted(file)} </dev/null >${quoted(output)} 2>&1; echo "${count} $?"\n`);
    const answer = new RegExp(`^${count} (\\d+)$`, 'm');
    await until(() => `\`${command}\` ends:\n${readFileSync(output, 'utf8')}`, () => answer.test(said) || bash.exitCode !== null, 120_000);
    return { exitCode: Number(answer.exec(said)?.[1] ?? -1), output: readFileSync(output, 'utf8') };
  };
}
