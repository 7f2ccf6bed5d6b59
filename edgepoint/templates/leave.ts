/** A part (images or disk) of an unpacked snapshot. */
export interface HotPart {
  readonly key: string;
  readonly bytes: number;
  /** Counts up with each use. */
  readonly lastUse: number;
  /** A restore reads it, or a running instance stands on it. */
  readonly held: boolean;
}

/**
 * Which parts leave so that `wantedBytes` more fit below `bytesMax`: the least recently used first, none that is held. When all
 * that may leave is not enough, all that may leave goes: what is held is not taken from anybody.
 */
export function chooseLeaving(parts: readonly HotPart[], about: { readonly bytesMax: number; readonly wantedBytes: number }): string[] {
  let bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
  const leaving: string[] = [];
  for (const part of parts.filter(({ held }) => !held).toSorted((a, b) => a.lastUse - b.lastUse)) {
    if (bytes + about.wantedBytes <= about.bytesMax) break;
    bytes -= part.bytes;
    leaving.push(part.key);
  }
  return leaving;
}
