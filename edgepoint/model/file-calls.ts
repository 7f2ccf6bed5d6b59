/** What the runtime has no function for but a snapshot's files need. An adapter implements it (edgepoint/box/file-calls.ts). */
export interface FileCalls {
  /** All extended attributes of a file itself, links not followed (llistxattr(2)). */
  xattrs(path: Buffer): readonly (readonly [name: string, value: Buffer])[];
  setXattr(path: Buffer, name: string, value: Buffer): void;
  /** A device, pipe or socket (mknod(2)); `mode` with its type. The file system's mask does not apply: the mode is set afterwards. */
  makeNode(path: Buffer, mode: number, device: bigint): void;
  /** The time of its last change, of the file itself, to the nanosecond (utimensat(2)). */
  setTime(path: Buffer, changedNs: bigint): void;
  /** Where a file has data, in order; the rest are holes that read as zeros (lseek(2), SEEK_DATA). */
  dataRanges(fd: number, bytes: number): readonly (readonly [from: number, length: number])[];
}
