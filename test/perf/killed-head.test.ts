import { createClient } from '@libsql/client';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { usageMessage } from '../../kit/wire/usage.ts';
import { parseMessage } from '../../kit/wire/version.ts';

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
}

t.test('kill -9 of the head, eight times: nothing of a real burner is billed twice and nothing is lost', { skip: existsSync('/sys/fs/cgroup/cpuacct') ? false : 'no cgroup v1' }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-test-killed-'));
  const name = `edgepoint-test-${process.pid}-${Date.now().toString(36)}`;
  const cpu = `/sys/fs/cgroup/cpuacct/${name}`;
  const memory = `/sys/fs/cgroup/memory/${name}`;
  const database = join(folder, 'head.db');
  const children: ChildProcess[] = [];
  const start = (): ChildProcess => {
    const child = spawn(join(process.cwd(), 'node_modules/.bin/bun'), ['test/perf/killed-head.ts', database, cpu, memory], { stdio: ['pipe', 'inherit', 'inherit'] });
    children.push(child);
    return child;
  };
  const client = createClient({ url: `file:${database}` });
  const sequence = async (): Promise<number> => Number((await client.execute('SELECT max(sequence) AS n FROM usage_states').catch(() => undefined))?.rows[0]?.['n'] ?? 0);
  try {
    mkdirSync(cpu);
    mkdirSync(memory);
    const burner = spawn('sh', ['-c', `echo $$ > ${cpu}/cgroup.procs && echo $$ > ${memory}/cgroup.procs && while :; do :; done`], { stdio: 'ignore' });
    children.push(burner);
    for (let life = 0; life < 8; life += 1) {
      const before = await sequence();
      const head = start();
      const deadline = performance.now() + 10_000;
      while ((await sequence()) < before + 1 + (life % 3) && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 3));
      t.ok((await sequence()) > before, `life ${life} went on at ${await sequence()}`);
      head.kill('SIGKILL');
      await ended(head);
    }
    const head = start();
    const before = await sequence();
    const deadline = performance.now() + 10_000;
    while ((await sequence()) === before && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 3));
    burner.kill('SIGKILL');
    await ended(burner);
    head.stdin?.write('end\n');
    await ended(head);
    const row = (await client.execute('SELECT text FROM usage_outbox')).rows;
    t.equal(row.length, 1);
    const record = parseMessage(usageMessage, String(row[0]?.['text']));
    const kernelNs = Number(readFileSync(join(cpu, 'cpuacct.usage'), 'latin1'));
    t.match(record, { ok: true, value: { final: true, totals: { requests: 10, bytesIn: 100, bytesOut: 1000, wakes: 1 } } });
    const cpuNs = record.ok ? record.value.totals.cpuNs : 0;
    t.ok(Math.abs(cpuNs / kernelNs - 1) < 0.01, `${cpuNs} metered, ${kernelNs} in the kernel`);
  } finally {
    for (const child of children) {
      child.kill('SIGKILL');
      await ended(child);
    }
    client.close();
    for (const path of [cpu, memory]) if (existsSync(path)) rmdirSync(path);
    rmSync(folder, { recursive: true, force: true });
  }
});
