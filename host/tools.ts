import { join } from 'node:path';

/**
 * Where the set-up (images/host) puts what it makes for this machine, outside any clone, so that a second clone finds it.
 * Every path is made by exactly one step of the set-up; daemons take them from their settings, with these as defaults.
 */
export const toolsFolder = process.env['EDGEPOINT_TOOLS'] ?? '/var/lib/edgepoint/tools';

export const tools = {
  /** An executable that runs a criu which really dumps and restores on this machine (its own, or the private one). */
  criu: join(toolsFolder, 'bin/criu'),
  natsServer: join(toolsFolder, 'bin/nats-server'),
  /** Makes the box of an instance and boots or restores into it; compiled from edgepoint/box/box.c. */
  box: join(toolsFolder, 'bin/edgepoint-box'),
  /** The base root filesystem of instances: Debian 13 with Node 20, files owned by uid 0. */
  baseRoot: join(toolsFolder, 'base'),
} as const;
