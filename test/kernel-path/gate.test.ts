import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import t from 'tap';
import { tools } from '../../host/tools.ts';

/** Counts datagrams by port, and sends them, in the network namespace: packets to an own address pass prerouting by the loopback. */
const program = `
const { createSocket } = require('dgram');
const got = {};
for (const port of [1001, 1002]) createSocket('udp4').on('message', () => (got[port] = (got[port] ?? 0) + 1)).bind(port);
const sender = createSocket('udp4');
require('readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  const [port, count] = line.split(' ').map(Number);
  for (let at = 0; at < count; at += 1) await new Promise((resolve) => sender.send('x', port, '192.0.2.1', resolve));
  await new Promise((resolve) => setTimeout(resolve, 100));
  console.log(JSON.stringify(got));
});
`;

/** Lines of a process, in order. */
function linesOf(child: ReturnType<typeof spawn>): { next(): Promise<string>; readonly waiting: string[] } {
  const waiting: string[] = [];
  const asked: ((line: string) => void)[] = [];
  if (child.stdout === null) throw new Error('no stdout');
  createInterface({ input: child.stdout }).on('line', (line) => {
    const first = asked.shift();
    if (first === undefined) waiting.push(line);
    else first(line);
  });
  return { waiting, next: () => new Promise((resolve) => (waiting.length > 0 ? resolve(waiting.shift() ?? '') : asked.push(resolve))) };
}

t.test('the gate holds so many packets of each app, lets them go, and drops what is too old', async (t) => {
  const netns = `gate-test-${process.pid}`;
  const inside = (...argv: string[]): string => execFileSync('ip', ['netns', 'exec', netns, ...argv], { encoding: 'utf8' });
  execFileSync('ip', ['netns', 'add', netns]);
  t.teardown(() => execFileSync('ip', ['netns', 'delete', netns]));
  inside('ip', 'link', 'set', 'lo', 'up');
  inside('ip', 'addr', 'add', '192.0.2.1/32', 'dev', 'lo');
  inside('nft', 'add table ip marks; add chain ip marks put { type filter hook prerouting priority -151; }; add rule ip marks put udp dport 1001 meta mark set 0x0e000001; add rule ip marks put udp dport 1002 meta mark set 0x0e000002');
  inside('iptables-nft', '-t', 'mangle', '-A', 'PREROUTING', '-m', 'mark', '--mark', '0x0e000000/0xff000000', '-j', 'NFQUEUE', '--queue-num', '45');
  const gate = spawn('ip', ['netns', 'exec', netns, tools.box, 'gate', '45', '1500'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const user = spawn('ip', ['netns', 'exec', netns, process.execPath, '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => user.kill());
  const told = linesOf(gate);
  const counted = linesOf(user);
  const send = async (port: number, count: number): Promise<Record<string, number>> => {
    user.stdin?.write(`${port} ${count}\n`);
    return JSON.parse(await counted.next()) as Record<string, number>;
  };
  const queued = (): number => Number(inside('cat', '/proc/net/netfilter/nfnetlink_queue').trim().split(/\s+/)[2]);

  t.equal(await told.next(), 'ready');
  const status = readFileSync(`/proc/${gate.pid ?? 0}/status`, 'utf8');
  t.match(status, /^CapEff:\s+0000000000001000$/m, 'its one right is CAP_NET_ADMIN');
  t.match(status, /^CapBnd:\s+0000000000000000$/m);
  t.match(status, /^Uid:\s+65534/m);
  t.match(status, /^NoNewPrivs:\s+1$/m);

  t.strictSame(await send(1001, 400), {}, 'nothing comes through');
  t.equal(await told.next(), 'held 1', 'told once');
  t.equal(queued(), 256, 'of one app no more are held');
  t.strictSame(await send(1002, 1), {});
  t.equal(await told.next(), 'held 2', 'another has its own place');
  gate.stdin?.write('go 2\n');
  t.strictSame(await send(1002, 0), { 1002: 1 });
  gate.stdin?.write('go 1\n');
  t.strictSame(await send(1001, 0), { 1001: 256, 1002: 1 });
  t.equal(queued(), 0);
  t.strictSame(told.waiting, [], 'nothing else was told');

  await send(1001, 3);
  t.equal(await told.next(), 'held 1');
  const fromMs = Date.now();
  t.equal(await told.next(), 'none 1', 'nobody took them in time');
  t.ok(Date.now() - fromMs > 1000);
  t.equal(queued(), 0);
  t.strictSame(await send(1001, 0), { 1001: 256, 1002: 1 }, 'they were dropped');

  const ended = new Promise((resolve) => gate.once('exit', resolve));
  await send(1001, 1);
  gate.stdin?.end();
  t.equal(await ended, 0, 'it ends with its stdin');
});
