import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { Failure } from '../../kit/errors.ts';
import { gatewayOf, type Subnet } from './address.ts';

/** The edgepoint's side of all instances' links. */
export const bridge = 'instances0';
const netnsFolder = '/run/netns';

async function run(command: readonly string[], input = ''): Promise<string> {
  const child = Bun.spawn([...command], { stdin: new Blob([input]), stdout: 'pipe', stderr: 'pipe' });
  const [status, out, err] = await Promise.all([child.exited, new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if (status !== 0) throw new Failure('network', `${command.join(' ')}: ${err.trim() || `exit status ${status}`}`);
  return out;
}

/**
 * What an instance may reach: answers to what reached it, and the public internet through the edgepoint's address. Not the
 * edgepoint, not its neighbours (their bridge ports are isolated too), no private range: other sites and hosts live there.
 */
const ruleset = (subnet: string): string => `
table inet edgepoint-instances
delete table inet edgepoint-instances
table inet edgepoint-instances {
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "${bridge}" ct state established,related accept
    iifname "${bridge}" drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    oifname "${bridge}" drop
    iifname "${bridge}" meta nfproto ipv6 drop
    iifname "${bridge}" ip daddr { 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3 } drop
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${subnet} oifname != "${bridge}" masquerade
  }
}
`;

/** The bridge with its gateway address, and the rules. Idempotent. */
export async function prepareBridge(subnet: Subnet, subnetText: string): Promise<void> {
  if (!existsSync(`/sys/class/net/${bridge}`) && !(await linkExists(bridge))) {
    await run(
      ['ip', '-batch', '-'],
      `link add ${bridge} type bridge\naddr add ${gatewayOf(subnet)}/${subnet.prefixLength} dev ${bridge}\nlink set ${bridge} up\n`,
    );
  }
  writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
  await run(['nft', '-f', '-'], ruleset(subnetText));
}

async function linkExists(name: string): Promise<boolean> {
  const child = Bun.spawn(['ip', 'link', 'show', name], { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' });
  return (await child.exited) === 0;
}

/** Network namespaces made beforehand: making one takes longer than the rest of a wake. */
export interface NetnsPool {
  /** One that is nobody's; waits for the making of one when none is ready. */
  take(): Promise<string>;
  /** Removes one after use: what an instance left in it goes with it. */
  remove(name: string): Promise<void>;
  pathOf(name: string): string;
}

/**
 * Opens the pool and fills it; names are `<prefix>-<number>`, and those of an earlier process that no record names are removed.
 * A namespace holds an eth0 that is down and has no address; edgepoint-box gives it one.
 */
export async function openNetnsPool(options: { prefix: string; size: number; inUse: ReadonlySet<string> }): Promise<NetnsPool> {
  const { prefix, size, inUse } = options;
  mkdirSync(netnsFolder, { recursive: true });
  const ours = readdirSync(netnsFolder).filter((name) => name.startsWith(`${prefix}-`));
  let nextNumber = Math.max(0, ...ours.map((name) => Number(name.slice(prefix.length + 1)) || 0)) + 1;
  for (const name of ours) if (!inUse.has(name)) await run(['ip', 'netns', 'delete', name]);

  const ready: string[] = [];
  let making: Promise<void> | null = null;

  async function make(count: number): Promise<void> {
    const names = Array.from({ length: count }, () => `${prefix}-${nextNumber++}`);
    const lines = names.flatMap((name) => {
      const link = `i${name.slice(prefix.length + 1)}`;
      return [
        `netns add ${name}`,
        `link add ${link} type veth peer name eth0 netns ${name}`,
        `link set ${link} master ${bridge} up`,
        `link set ${link} type bridge_slave isolated on`,
      ];
    });
    await run(['ip', '-batch', '-'], `${lines.join('\n')}\n`);
    ready.push(...names);
  }

  function refill(): Promise<void> {
    making ??= make(Math.max(1, size - ready.length)).finally(() => {
      making = null;
    });
    return making;
  }
  await refill();

  return {
    async take(): Promise<string> {
      while (ready.length === 0) await refill();
      const name = ready.shift() as string;
      if (ready.length <= size / 2) void refill().catch(() => undefined); // a failure is met again, and told, by the next take that finds none
      return name;
    },
    async remove(name: string): Promise<void> {
      if (existsSync(`${netnsFolder}/${name}`)) await run(['ip', 'netns', 'delete', name]);
    },
    pathOf: (name: string): string => `${netnsFolder}/${name}`,
  };
}
