import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import type { Browser } from 'playwright-core';
import type { Test } from 'tap';

/** Debian's Chromium, which trusts that root (null: only the public ones) and finds these hosts at these addresses. */
export async function openBrowser(t: Test, options: { root: string | null; hosts: Readonly<Record<string, string>> }): Promise<Browser> {
  const home = mkdtempSync(join(tmpdir(), 'chromium-'));
  const database = join(home, '.pki/nssdb');
  mkdirSync(database, { recursive: true });
  const certutil = (...args: readonly string[]): void => void execFileSync('certutil', ['-d', `sql:${database}`, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  certutil('-N', '--empty-password');
  if (options.root !== null) certutil('-A', '-t', 'C,,', '-n', 'root', '-i', options.root);
  const rules = Object.entries(options.hosts).map(([host, address]) => `MAP ${host} ${address}`);
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', env: { PATH: process.env['PATH'] ?? '', HOME: home }, args: ['--no-sandbox', `--host-resolver-rules=${rules.join(',')}`] });
  t.teardown(async () => {
    await browser.close();
    rmSync(home, { recursive: true, force: true });
  });
  return browser;
}
