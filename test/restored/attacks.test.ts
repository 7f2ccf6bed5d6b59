import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { type Engine, until } from './engine.ts';
import { lineUp } from './line-up.ts';

/** What an instance tries, and how it is refused. */
const refusals: Readonly<Record<string, string>> = {
  'mount a tmpfs': 'EPERM',
  'mount proc': 'EPERM',
  'bind mount': 'EPERM',
  'remount /dev writable': 'EPERM',
  'umount /proc': 'EPERM',
  fsopen: 'EPERM',
  open_tree: 'EPERM',
  move_mount: 'EPERM',
  mount_setattr: 'EPERM',
  pivot_root: 'EPERM',
  'unshare user': 'EPERM',
  'unshare mount': 'EPERM',
  'unshare network': 'EPERM',
  'clone a user namespace': 'EPERM',
  'clone a pid namespace': 'EPERM',
  'clone a time namespace': 'EPERM',
  clone3: 'ENOSYS',
  'setns to its own network': 'EPERM',
  'ptrace its parent': 'EPERM',
  'ptrace seize its parent': 'EPERM',
  "read its parent's memory": 'EPERM',
  kcmp: 'EPERM',
  pidfd_getfd: 'EPERM',
  keyctl: 'EPERM',
  add_key: 'EPERM',
  request_key: 'EPERM',
  bpf: 'EPERM',
  perf_event_open: 'EPERM',
  userfaultfd: 'EPERM',
  io_uring_setup: 'ENOSYS',
  io_uring_enter: 'ENOSYS',
  io_uring_register: 'ENOSYS',
  'raw socket': 'EPERM',
  'raw IPv6 socket': 'EPERM',
  'packet socket': 'EAFNOSUPPORT',
  'vsock socket': 'EAFNOSUPPORT',
  'crypto socket': 'EAFNOSUPPORT',
  'netfilter netlink': 'EAFNOSUPPORT',
  'audit netlink': 'EAFNOSUPPORT',
  name_to_handle_at: 'EPERM',
  open_by_handle_at: 'EPERM',
  fanotify_init: 'EPERM',
  init_module: 'EPERM',
  delete_module: 'EPERM',
  kexec_load: 'EPERM',
  reboot: 'EPERM',
  swapon: 'EPERM',
  'set the clock': 'EPERM',
  settimeofday: 'EPERM',
  'set the host name': 'EPERM',
  'read the kernel log': 'EPERM',
  iopl: 'EPERM',
  chroot: 'EPERM',
  'raise the scheduling priority': 'EACCES',
  'real-time scheduling': 'EPERM',
  'raise the limit on open files': 'EPERM',
  "make a disk's device": 'EPERM',
  'make a loop device': 'EPERM',
  'make /dev/mem': 'EPERM',
  'make a device in /dev': 'EROFS',
  'write in /dev': 'EROFS',
  'open /dev/vda': 'ENOENT',
  'open /dev/sda': 'ENOENT',
  'open /dev/kmsg': 'ENOENT',
  'open /dev/fuse': 'ENOENT',
  'open /dev/net/tun': 'ENOENT',
  'open /dev/ptmx': 'ENOENT',
  'push to a terminal': 'ENXIO',
  'read /proc/kcore': 'ENOENT|EACCES|EPERM',
  'read /proc/kmsg': 'EACCES|EPERM|ENOENT',
  'write /proc/sysrq-trigger': 'ENOENT|EACCES',
  'write core_pattern': 'EACCES',
  'write modprobe path': 'ENOENT|EACCES',
  'write ip_forward': 'EACCES',
  "write its host's hostname": 'EACCES',
  'write drop_caches': 'EACCES',
  'lower its oom score': 'EACCES',
  'write its uid_map': 'EPERM',
  'read /sys/kernel': 'ENOENT',
  'make a cgroup': 'ENOENT',
  'reach the edgepoint at the gateway': 'ETIMEDOUT',
  'reach the edgepoint at the gateway by IPv6': 'ETIMEDOUT',
  'reach the edgepoint at its other address': 'ETIMEDOUT',
  'reach its neighbour': 'ETIMEDOUT',
  'reach an address of its subnet that nobody has': 'ETIMEDOUT',
  'reach the metadata service': 'ETIMEDOUT',
  'reach a private network': 'ETIMEDOUT',
  'gain rights by a set-uid file': 'EPERM',
  'signal a process of the machine': 'ESRCH',
  'open a folder of the machine': 'ENOENT',
  "open it through its first process's root": 'ENOENT',
  'open it through its own way up': 'ENOENT',
  'secret memory': 'ENOSYS',
  Landlock: 'ENOSYS',
  'Multipath TCP': 'EPROTONOSUPPORT',
  'a call of the x32 interface': 'ENOSYS',
  'a call of the 32-bit interface': 'EPERM',
};

for (const ownNetwork of [false, true]) {
  t.test(`what it must not do is refused in each (${ownNetwork ? 'own' : 'shared'} network)`, async (t) => {
    const { engine, neighbour, booted, others } = await lineUp(t, ownNetwork);
    const listener = engine.place.spawn(['node', '-e', "require('net').createServer((s) => s.end('hello')).listen(7001, '::', () => console.log('up'))"], ['ignore', 'pipe', 'inherit']);
    await new Promise((resolve) => listener.stdout?.once('data', resolve));
    const setUp = 'ip addr add 10.200.0.1/32 dev lo && ip link add d0 type veth peer name d1 && ip addr add 203.0.113.1/24 dev d0 && ip link set d1 up && ip link set d0 up && ip route add default via 203.0.113.2';
    t.equal(spawnSync('nsenter', ['--target', `${engine.place.pid}`, '--net', 'sh', '-c', setUp]).status, 0, 'the edgepoint has a way out');
    const gateway6 = linkLocal(engine);
    const reachable = `for host in 10.77.0.1 10.200.0.1 '[${gateway6}%instances0]'; do curl --silent --max-time 3 --http0.9 "http://$host:7001/" | grep -q hello || exit 1; done; curl --silent --max-time 3 http://${neighbour.address}:8080/`;
    await until('the edgepoint itself reaches all of it', () => spawnSync('nsenter', ['--target', `${engine.place.pid}`, '--net', 'sh', '-c', reachable]).status === 0);
    const words = ['attempts', '10.77.0.1', gateway6, neighbour.address, `${engine.place.pid}`, engine.folder];
    const attack = `return require('child_process').spawnSync('/app/probe', ${JSON.stringify(words)}).stdout.toString()`;
    const all = [['a booted one', booted] as const, ...others];
    /* A fresh link's own IPv6 address is tentative (0x40) for a second; before, every IPv6 attempt fails for want of a source. */
    const settled = `return !/ (40|c0) +eth0/.test(require('fs').readFileSync('/proc/net/if_inet6', 'utf8'))`;
    for (const [label, instance] of all) await until(`${label} has its IPv6 address`, () => engine.run(instance, settled) as Promise<boolean>);
    const told = await Promise.all(all.map(async ([label, instance]) => [label, String(await engine.run(instance, attack))] as const));
    for (const [label, text] of told) {
      const answers = new Map(text.trim().split('\n').map((line) => [line.slice(0, line.lastIndexOf(' ')), line.slice(line.lastIndexOf(' ') + 1)]));
      t.same([...answers.keys()].filter((name) => !(name in refusals)), [], `${label}: nothing was tried that the table does not know`);
      for (const [name, errors] of Object.entries(refusals)) t.ok(errors.split('|').includes(answers.get(name) ?? ''), `${label}: ${name}: ${answers.get(name)}`);
    }
    t.equal(new Set(told.map(([, text]) => text)).size, 1, 'all are refused in the same words');
    for (const [label, instance] of [['its neighbour', neighbour] as const, ...all]) t.equal(await engine.run(instance, 'return 5'), 5, `${label} lives on`);
  });
}

function linkLocal(engine: Engine): string {
  const line = readFileSync(`/proc/${engine.place.pid}/net/if_inet6`, 'utf8').split('\n').find((text) => text.endsWith('instances0') && text.startsWith('fe80')) ?? '';
  return (line.slice(0, 32).match(/.{4}/g) ?? []).join(':');
}
