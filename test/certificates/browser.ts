import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import type { Browser } from 'playwright-core';
import type { Test } from 'tap';

export interface BrowserOptions {
  /** PEM file of whom it trusts beside the public authorities; null: nobody. */
  readonly root: string | null;
  /** Addresses by host; without it names are looked up. */
  readonly hosts?: Readonly<Record<string, string>>;
  /** A program that begins Chromium somewhere else. */
  readonly program?: string;
}

/** Debian's Chromium. */
export async function openBrowser(t: Test, options: BrowserOptions): Promise<Browser> {
  const home = mkdtempSync(join(tmpdir(), 'chromium-'));
  const database = join(home, '.pki/nssdb');
  mkdirSync(database, { recursive: true });
  const certutil = (...args: readonly string[]): void => void execFileSync('certutil', ['-d', `sql:${database}`, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  certutil('-N', '--empty-password');
  if (options.root !== null) certutil('-A', '-t', 'C,,', '-n', 'root', '-i', options.root);
  const rules = Object.entries(options.hosts ?? {}).map(([host, address]) => `MAP ${host} ${address}`);
  const browser = await chromium.launch({ executablePath: options.program ?? '/usr/bin/chromium', env: { PATH: process.env['PATH'] ?? '', HOME: home }, args: ['--no-sandbox', ...(rules.length === 0 ? [] : [`--host-resolver-rules=${rules.join(',')}`])] });
  t.teardown(async () => {
    await browser.close();
    rmSync(home, { recursive: true, force: true });
  });
  return browser;
}
