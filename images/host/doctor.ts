import { dlopen, ptr } from 'bun:ffi';
import { existsSync, mkdtempSync, readFileSync, rmdirSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cgroupFolders, cgroupOf, cgroupVersion, isFrozen, limitCgroup, makeCgroup, prepareCgroupParents, removeCgroup, setFrozen } from '../../edgepoint/box/cgroup.ts';
import { offerings, type Offering } from '../../edgepoint/model/offering.ts';
import { tools } from '../../host/tools.ts';
import { readZramSwap } from '../../host/zram.ts';
import { messageOf } from '../../kit/errors.ts';
import { runCommand } from './command.ts';
import { probeCriu, versionOf } from './criu.ts';
import { failure, type Finding, judgeClock, judgeDisk, type Level, ok } from './doctor-judges.ts';

const usage = `Usage: npm run doctor -- [--json] [--data-folder DIR]

Tries on this machine what an edgepoint needs, for real: a dump and a restore, cgroups with limits, a firewall, links, volumes, the clock, the
disk. Changes nothing and leaves nothing. Exits 1 when something is missing that an edgepoint cannot do without.

  --json             one JSON object a line
  --data-folder DIR  where the edgepoint keeps its data (default: /var/lib/edgepoint)`;

type Check = readonly [name: string, look: (dataFolder: string) => Promise<Finding> | Finding];

const setUpAgain = 'Run the set-up: sh images/host/bootstrap.sh images/host/main.ts';

const checks: readonly Check[] = [
  ['snapshots', lookAtCriu],
  ['cgroups', lookAtCgroups],
  ['frozen memory', () => (readZramSwap() === null ? { level: 'warning', text: 'no swap on zram', remedy: `Idle instances of small programs give no memory back when frozen. ${setUpAgain}` } : ok('swap on zram'))],
  ['lazy restores', lookAtPageFaults],
  ['firewall', () => tryCommand('nftables sets a table with a map', ['unshare', '--net', 'nft', 'add table inet t; add map inet t m { type ipv4_addr : verdict; }'], 'The kernel needs nf_tables, the machine the package nftables.')],
  ['links', () => tryScript('bridge, veth and token bucket', ['--net'], 'ip link add bridge0 type bridge && ip link add veth0 type veth peer name veth1 && ip link set veth0 master bridge0 && tc qdisc add dev veth0 root tbf rate 1gbit burst 512k latency 100ms', 'The kernel needs bridge, veth and sch_tbf.')],
  ['own addresses', lookAtOwnAddresses],
  ['private disks', () => tryScript('overlay on tmpfs', ['--mount'], 'cd "$1" && mount -t tmpfs doctor . && mkdir lower upper work root && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work doctor root', 'The kernel needs overlayfs and tmpfs.')],
  ['volumes', () => tryScript('ext4 on a loop device', ['--mount'], 'cd "$1" && truncate -s 16M image && mkfs.ext4 -q -F image && mkdir root && mount -o loop image root && umount root', 'The kernel needs loop and ext4, the machine e2fsprogs.')],
  ['programs', lookAtPrograms],
  ['clock', () => judgeClock(clockState())],
  ['disk', (dataFolder) => judgeDisk(freeAt(dataFolder))],
];

async function lookAtCriu(): Promise<Finding> {
  if (!existsSync(tools.criu)) return failure(`there is no CRIU at ${tools.criu}`, setUpAgain);
  const why = await probeCriu(tools.criu);
  return why === null ? ok(`CRIU ${await versionOf(tools.criu)} dumped and restored a process`) : failure(`CRIU ${why}`, `${setUpAgain}; it tries others. Snapshots need CONFIG_CHECKPOINT_RESTORE, and a machine that lets root use it.`);
}

function lookAtCgroups(): Finding {
  const version = cgroupVersion();
  const cgroup = cgroupOf(version, `doctor${process.pid}`, 'edgepoint', 'instance');
  const above = cgroupFolders(cgroup).flatMap((folder) => [join(folder, '..'), join(folder, '../..')]);
  try {
    prepareCgroupParents(cgroup);
    makeCgroup(cgroup);
    limitCgroup(cgroup, offerings[0] as Offering);
    setFrozen(cgroup, true);
    const frozen = isFrozen(cgroup, true);
    setFrozen(cgroup, false);
    if (!frozen) return failure('the freezer does not freeze', 'The kernel needs the freezer of cgroups.');
    return ok(`version ${version}: limits and the freezer${cgroup.io === '' ? '; disks are not limited' : ''}`);
  } catch (error) {
    return failure(`version ${version}: ${messageOf(error)}`, 'The machine must let root make cgroups with cpu, memory, pids and freezer (in a container: give it the cgroup file system, writable).');
  } finally {
    removeCgroup(cgroup);
    for (const folder of new Set(above)) if (existsSync(folder)) rmdirSync(folder);
  }
}

function lookAtPageFaults(): Finding {
  const path = '/proc/sys/vm/unprivileged_userfaultfd';
  const allowed = existsSync(path) && readFileSync(path, 'utf8').trim() === '1';
  return allowed ? ok('allowed') : { level: 'warning', text: existsSync(path) ? `${path} is 0` : 'the kernel has no userfaultfd', remedy: `Big programs are restored whole, which takes longer. ${setUpAgain}` };
}

/** Only apps with `ownPort` need it (decision 145). */
async function lookAtOwnAddresses(): Promise<Finding> {
  const script = `iptables-nft -t mangle -A PREROUTING -m mark --mark 1 -j NFQUEUE --queue-num 45
    nft 'add table inet t; add chain inet t c { type nat hook prerouting priority -100; }; add rule inet t c dnat ip6 to fd00::1'
    ${tools.box} gate 45 1000 </dev/null`;
  const found = await tryScript('packets can be held and led to instances', ['--net'], script, 'Apps cannot have addresses of their own. The kernel needs nf_nat, nfnetlink_queue, xt_NFQUEUE and nft_compat, the machine the package iptables.');
  return found.level === 'failure' ? { ...found, level: 'warning' } : found;
}

async function lookAtPrograms(): Promise<Finding> {
  for (const [name, argv] of [['the box', [tools.box]], ['nats-server', [tools.natsServer, '--version']]] as const) {
    if (!existsSync(argv[0])) return failure(`${name} is not at ${argv[0]}`, setUpAgain);
    const ran = await runCommand([...argv], { timeoutMs: 5000 });
    if (name === 'nats-server' && ran.exitCode !== 0) return failure(`${name} does not run: ${ran.output.trim()}`, setUpAgain);
  }
  if (!existsSync(join(tools.baseRoot, 'usr/bin'))) return failure(`there is no base root filesystem at ${tools.baseRoot}`, setUpAgain);
  return ok('box, nats-server and base root are there');
}

async function tryCommand(what: string, argv: readonly string[], remedy: string): Promise<Finding> {
  const ran = await runCommand([...argv], { timeoutMs: 10_000 });
  return ran.exitCode === 0 ? ok(what) : failure(`${what}: ${ran.output.trim().split('\n').at(-1) ?? ''}`, remedy);
}

/** In namespaces of its own, which end with it and with everything it made; `$1` is an empty folder. */
async function tryScript(what: string, namespaces: readonly string[], script: string, remedy: string): Promise<Finding> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-doctor-'));
  try {
    return await tryCommand(what, ['unshare', ...namespaces, 'sh', '-ec', script, 'sh', folder], remedy);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function clockState(): number {
  const libc = dlopen('libc.so.6', { adjtimex: { args: ['ptr'], returns: 'i32' } });
  const timex = new Uint8Array(512); // struct timex is 208 bytes; modes 0 only reads
  const state = libc.symbols.adjtimex(ptr(timex));
  libc.close();
  return state;
}

function freeAt(folder: string): { freeBytes: number; freeFiles: number } {
  const { bavail, bsize, ffree, files } = statfsSync(existsSync(folder) ? folder : '/');
  return { freeBytes: bavail * bsize, freeFiles: files === 0 ? Number.MAX_SAFE_INTEGER : ffree }; // some file systems do not count files
}

/** What a check throws is a finding too. */
async function lookSafely(look: Check[1], dataFolder: string): Promise<Finding> {
  try {
    return await look(dataFolder);
  } catch (error) {
    return failure(messageOf(error), 'This was not expected; the machine forbids something that root may do elsewhere.');
  }
}

const marks: Readonly<Record<Level, string>> = { ok: 'ok', warning: 'warning', failure: 'FAILS' };

async function main(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help')) {
    console.log(usage);
    return 0;
  }
  const at = argv.indexOf('--data-folder');
  const dataFolder = at === -1 ? '/var/lib/edgepoint' : argv[at + 1];
  const unknown = argv.find((word, index) => word !== '--json' && index !== at && (at === -1 || index !== at + 1));
  if (unknown !== undefined || dataFolder === undefined) {
    console.error(unknown === undefined ? 'doctor: --data-folder wants a folder' : `doctor: ${unknown} is not an option. See --help.`);
    return 2;
  }
  if (process.getuid?.() !== 0) {
    console.error('doctor: it tries what only root may do. Try again with sudo.');
    return 2;
  }
  let failed = false;
  for (const [name, look] of checks) {
    const finding = await lookSafely(look, dataFolder);
    failed ||= finding.level === 'failure';
    if (argv.includes('--json')) console.log(JSON.stringify({ name, ...finding }));
    else {
      console.log(`${marks[finding.level].padEnd(8)} ${name.padEnd(14)} ${finding.text}`);
      if (finding.remedy !== undefined) console.log(`${' '.repeat(24)}${finding.remedy}`);
    }
  }
  return failed ? 1 : 0;
}

process.exit(await main(process.argv.slice(2)));
