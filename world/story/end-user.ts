import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { searchPath, type Ran } from '../command.ts';
import type { ClientPlace } from '../plan.ts';
import { unboundConfig } from '../resolver.ts';
import type { World } from '../start.ts';

/** An end user: a network namespace at a place, whose system resolver is a real caching resolver that tells its clients' network. */
export interface EndUser {
  readonly name: string;
  readonly place: ClientPlace;
  readonly ipv4: string;
  /** Runs a program there to its end, with that resolver in /etc/resolv.conf. */
  run(argv: readonly string[], env?: Record<string, string>): Promise<Ran>;
  /** As run, but hands over each line of stdout when it comes. */
  follow(argv: readonly string[], onLine: (line: string) => void): Promise<number>;
  leave(): Promise<void>;
}

const resolverStartMs = 5_000;

export async function settleEndUser(world: World, name: string, place: ClientPlace): Promise<EndUser> {
  const { netns, ipv4 } = await world.addClient(name, place);
  const { dataFolder, dnsAddresses, zoneName } = world.describe();
  const folder = join(dataFolder, 'end-users', name);
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o755);
  const config = unboundConfig({ listen: [ipv4], clientSubnets: [`${ipv4}/32`], zoneName, dispatchers: dnsAddresses, folder });
  writeFileSync(join(folder, 'unbound.conf'), config);
  writeFileSync(join(folder, 'resolv.conf'), `nameserver ${ipv4}\noptions timeout:2 attempts:2\n`);
  const env = { PATH: searchPath, LC_ALL: 'C', HOME: folder };
  const inside = (argv: readonly string[]): string[] => ['ip', 'netns', 'exec', netns, ...argv];
  /* A private mount namespace, so that only this program sees this resolv.conf. */
  const resolving = (argv: readonly string[]): string[] => [
    ...inside(['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" /etc/resolv.conf && exec "$@"', join(folder, 'resolv.conf')]),
    ...argv,
  ];
  const resolver = Bun.spawn(inside(['unbound', '-d', '-p', '-c', join(folder, 'unbound.conf')]), { env, stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' });

  const run = async (argv: readonly string[], more: Record<string, string> = {}): Promise<Ran> => {
    const child = Bun.spawn(resolving(argv), { env: { ...env, ...more }, cwd: folder, stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' });
    const [stdout, stderr, exitCode] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
    return { exitCode, stdout, stderr };
  };
  const deadlineMs = performance.now() + resolverStartMs;
  while ((await run(['getent', 'ahostsv4', `ns1.${zoneName}`])).exitCode !== 0 && performance.now() < deadlineMs) await Bun.sleep(50);

  return {
    name,
    place,
    ipv4,
    run,
    async follow(argv, onLine) {
      const child = Bun.spawn(resolving(argv), { env, cwd: folder, stdin: 'ignore', stdout: 'pipe', stderr: 'inherit' });
      let held = '';
      const decoder = new TextDecoder();
      const reader = child.stdout.getReader();
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        held += decoder.decode(next.value, { stream: true });
        const lines = held.split('\n');
        held = lines.pop() ?? '';
        for (const line of lines) onLine(line);
      }
      return child.exited;
    },
    async leave() {
      resolver.kill('SIGTERM');
      await resolver.exited;
    },
  };
}
