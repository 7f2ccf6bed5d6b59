import { lchownSync, lstatSync } from 'node:fs';

/** The log of a template that was made elsewhere is readable for that edgepoint's reader of logs, whose group is another here. */
export function giveLogTo(gid: number, log: string): void {
  const status = lstatSync(log, { throwIfNoEntry: false });
  if (status !== undefined && status.gid !== gid) lchownSync(log, status.uid, gid);
}
