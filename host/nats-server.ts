import { renameSync, writeFileSync } from 'node:fs';

/** Between the two readings of a new config; the server's own reload takes some milliseconds. */
const pauseMs = 200;

/**
 * Replaces a running nats-server's config and has it read it, twice: the first reading revokes at once (the revoked connection is
 * closed, others stay); in nats-server 2.10 what a *new* account imports begins to work only with the next reading after the
 * one that made the account. Resolves when both are sent.
 */
export async function reloadNatsServer(options: { pid: number; configPath: string; text: string }): Promise<void> {
  writeNatsConfig(options.configPath, options.text);
  process.kill(options.pid, 'SIGHUP');
  await new Promise((resolve) => setTimeout(resolve, pauseMs));
  process.kill(options.pid, 'SIGHUP');
}

/** Whole or not at all, for a server may read it at any moment. */
export function writeNatsConfig(path: string, text: string): void {
  const next = `${path}.next`;
  writeFileSync(next, text, { mode: 0o640 });
  renameSync(next, path);
}
