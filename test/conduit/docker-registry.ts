import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

/** `ann:opensesame` by bcrypt, the only kind that the registry takes. */
const passwordLine = 'ann:$2b$05$qqB8nZfaVYrq48C4AvrV6.9QV0z7Sf7ViTP9dGNnOMuaKMgscJ3aC';
export const credentials = 'ann:opensesame';

/** Debian's docker-registry on a port of its own of 127.0.0.1; gives `127.0.0.1:PORT`. It ends with the test. */
export async function startRegistry(t: Test, options: { password?: boolean } = {}): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-registry-'));
  const passwords = join(folder, 'htpasswd');
  writeFileSync(passwords, `${passwordLine}\n`);
  const auth = options.password === true ? { auth: { htpasswd: { realm: 'test', path: passwords } } } : {};
  const config = { version: 0.1, log: { level: 'info' }, storage: { filesystem: { rootdirectory: join(folder, 'data') } }, http: { addr: '127.0.0.1:0' }, ...auth };
  // YAML is what its config is in, and JSON is YAML.
  writeFileSync(join(folder, 'config.yml'), JSON.stringify(config));
  const child = spawn('docker-registry', ['serve', join(folder, 'config.yml')], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, OTEL_TRACES_EXPORTER: 'none' } });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  return new Promise((resolve, reject) => {
    let said = '';
    const look = (bytes: Buffer): void => {
      said += bytes.toString();
      const address = /listening on (127\.0\.0\.1:\d+)/.exec(said)?.[1];
      if (address !== undefined) resolve(address);
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.once('error', reject).once('close', () => reject(new Error(`the registry ended: ${said}`)));
  });
}
