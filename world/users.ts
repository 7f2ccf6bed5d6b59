import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';

/**
 * Fixed uids (and gids of the same number), one for each kind of daemon that needs no root. They lie between Debian's dynamic
 * users and 65536, where the uids of instances begin (`uidSlot * 65536`), so they meet neither. Names in passwd are not needed.
 */
export const users = { nats: 64_701, conduit: 64_702, metering: 64_703, globalDispatcher: 64_704, certificates: 64_705, relay: 64_706, head: 64_710, dispatcher: 64_730 } as const;

/** The group that may use the sockets in an edgepoint's run folder: its head, its dispatcher; root needs none. */
export const socketGroup = (edgepointIndex: number): number => 64_750 + edgepointIndex;

export interface DaemonUser {
  readonly uid: number;
  readonly gid: number;
}

export function makeFolder(path: string, owner: DaemonUser, mode: number): void {
  mkdirSync(path, { recursive: true });
  chownSync(path, owner.uid, owner.gid);
  // mkdir's own mode is cut by the umask.
  chmodSync(path, mode);
}

/** The content is never readable by anybody else, not even for a moment. */
export function writePrivateFile(path: string, text: string, owner: DaemonUser): void {
  writeFileSync(path, '', { mode: 0o600 });
  chmodSync(path, 0o600);
  chownSync(path, owner.uid, owner.gid);
  writeFileSync(path, text);
}

export const rootUser: DaemonUser = { uid: 0, gid: 0 };
