import t from 'tap';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openClock } from '../../host/clock.ts';
import { until } from './nats.ts';

interface Said {
  readonly addresses: string[];
  readonly bootId: string;
  readonly bootNs: number;
}

function get(address: string, path: string, method = 'GET'): Promise<{ status: number; text: string }> {
  const where = address.startsWith('unix:') ? { socketPath: address.slice(5) } : { host: address.replace(/:\d+$/, '').replace(/[[\]]/g, ''), port: Number(/\d+$/.exec(address)?.[0]) };
  return new Promise((resolve, reject) => {
    const asked = request({ ...where, path, method, agent: false }, (response) => {
      let text = '';
      response.on('data', (bytes: Buffer) => void (text += bytes.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    asked.on('error', reject);
    asked.end();
  });
}

for (const [runtime, command, args] of [
  ['Bun', 'node_modules/.bin/bun', []],
  ['Node', 'node', ['--import=tsx']],
] as const) {
  t.test(`health, metrics and the clock on ${runtime}`, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'edgepoint-health-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const path = join(folder, 'health.sock');
    const before = openClock().bootNs();
    const child = spawn(command, [...args, 'test/host/health-peer.ts', `unix:${path}`, '127.0.0.1:0', '[::1]:0'], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, NODE_OPTIONS: '' } });
    t.teardown(() => child.kill('SIGKILL'));
    let output = '';
    child.stdout.on('data', (bytes: Buffer) => void (output += bytes.toString()));
    await until('it serves', () => output.endsWith('\n'), 15_000);
    const said = JSON.parse(output) as Said;

    t.equal(said.bootId, readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
    const afterNs = openClock().bootNs();
    // A hundredth of a second is what /proc/uptime is rounded to.
    t.ok(said.bootNs > before - 1e7 && said.bootNs < afterNs + 1e7, `its clock reads between two readings of ours: ${before} ${said.bootNs} ${afterNs}`);

    t.equal(said.addresses[0], `unix:${path}`);
    for (const address of said.addresses) {
      t.notMatch(address, /:0$/, address);
      t.strictSame(await get(address, '/healthz'), { status: 200, text: '{"ok":true,"why":""}\n' });
      const { text } = await get(address, '/metrics');
      t.match(text, 'wakes_total{app="shop",daemon="tester"} 3');
      t.match(text, 'load_ratio{daemon="tester"} 0.5');
      t.match(text, /wake_ms_bucket\{le="100",.*\} 1/);
      t.match(text, /process_resident_memory_bytes(\{.*\})? \d+/);
      t.equal((await get(address, '/')).status, 404);
      t.equal((await get(address, '/healthz', 'POST')).status, 405);
    }
    child.kill('SIGUSR2');
    await until('it says that it is not well', async () => (await get(said.addresses[0] ?? '', '/healthz')).status === 503);
    t.match((await get(said.addresses[1] ?? '', '/healthz')).text, 'draining');
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    t.equal(await ended, 0, 'nothing keeps it after stop');
    t.notOk(existsSync(path), 'the socket file is gone');
  });
}

t.test('the boot clock never goes back', async (t) => {
  const clock = openClock();
  let last = 0;
  let back = 0;
  for (let reading = 0; reading < 100_000; reading += 1) {
    const now = clock.bootNs();
    if (now < last) back += 1;
    last = now;
  }
  t.equal(back, 0);
  t.ok(Math.abs(clock.wallMs() - Date.now()) < 1000);
});
