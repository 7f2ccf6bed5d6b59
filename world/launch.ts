import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { searchPath } from './command.ts';
import type { Daemon } from './daemons.ts';
import { cgroupHierarchies, environmentMark } from './kernel-objects.ts';
import type { JournalWriter } from './journal.ts';
import { worldNames } from './plan.ts';
import type { WorldPlan } from './plan.ts';

/** A cgroup for all daemons of the world: whatever they start stays in it, however often it forks, and is found there. */
export function makeDaemonCgroup(plan: WorldPlan, journal: JournalWriter): string {
  // Version 2 is listed when the machine has it; it can kill a whole tree at once. Only a machine without it falls back.
  const root = cgroupHierarchies().toSorted((one, other) => rank(one) - rank(other))[0] ?? '/sys/fs/cgroup';
  const path = join(root, worldNames.cgroup(plan.id), 'daemons');
  journal.write({ made: 'cgroup', path });
  mkdirSync(path, { recursive: true });
  return path;
}

const rank = (path: string): number => (path === '/sys/fs/cgroup' || path.endsWith('/unified') ? 0 : path.endsWith('/pids') ? 1 : 2);

/** Enters the cgroup first, as root; then namespaces, then the user. Every link is an exec, so the pid stays the same. */
export function commandLine(plan: WorldPlan, cgroup: string, daemon: Daemon): { argv: string[]; env: Record<string, string> } {
  return {
    argv: [
      '/bin/sh',
      '-c',
      // What root makes for the head in a folder of their group, the head may remove.
      'umask 0002 && echo $$ >"$0/cgroup.procs" && exec "$@"',
      cgroup,
      ...enterNamespaces(daemon),
      ...becomeUser(daemon),
      ...(daemon.entry === null ? daemon.argv : [join(plan.repository, 'node_modules/.bin/bun'), join(plan.repository, daemon.entry), ...daemon.argv]),
    ],
    env: { ...daemonEnvironment(plan), ...(daemon.entry === null ? serverEnvironment : {}) },
  };
}

function enterNamespaces(daemon: Daemon): string[] {
  const kinds = [
    ...(daemon.netns === null ? [] : [`--net=/run/netns/${daemon.netns}`]),
    ...(daemon.mountPin === null ? [] : [`--mount=${daemon.mountPin}`]),
  ];
  return kinds.length === 0 ? [] : ['nsenter', ...kinds, '--'];
}

/** No capability, none to be had again, none through a set-uid program (no_new_privs, prctl(2)). */
function becomeUser(daemon: Daemon): string[] {
  if (daemon.user.uid === 0) return [];
  const { uid, gid } = daemon.user;
  return ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs', '--'];
}

/**
 * nats-server: Go lets garbage grow to a tenth of what lives instead of as much again; its work here is small. So a burst leaves less behind, and
 * the next collection, which gives back what it held for the burst, comes within a minute of rest (decision 152).
 */
const serverEnvironment = { GOGC: '10' } as const;

function daemonEnvironment(plan: WorldPlan): Record<string, string> {
  const [name = '', value = ''] = environmentMark(plan.id).split('=');
  const passed = ['EDGEPOINT_LOG_LEVEL', 'EDGEPOINT_TOOLS', 'CONDUIT_WEBHOOKS_ANYWHERE'].flatMap((key) => (process.env[key] === undefined ? [] : [[key, process.env[key] ?? '']]));
  return {
    PATH: searchPath,
    LC_ALL: 'C.UTF-8',
    HOME: '/nonexistent',
    // Bun would keep compiled sources in a home that these users do not have.
    BUN_RUNTIME_TRANSPILER_CACHE_PATH: '0',
    ...(Object.fromEntries(passed) as Record<string, string>),
    [name]: value,
  };
}
