export interface CachedFile {
  readonly provider: string;
  readonly path: string;
  readonly bytes: number;
  /** When it was used last. */
  readonly usedMs: number;
}

export interface CacheLimits {
  readonly bytesMax: number;
  /** Of these, those of one provider. */
  readonly providerBytesMax: number;
}

/** Which files leave, so that each provider and all together keep below their limits: those used longest ago. */
export function planCache(files: readonly CachedFile[], limits: CacheLimits): readonly CachedFile[] {
  let total = 0;
  const ofProvider = new Map<string, number>();
  return files
    .toSorted((a, b) => b.usedMs - a.usedMs)
    .filter(({ provider, bytes }) => {
      const own = ofProvider.get(provider) ?? 0;
      if (total + bytes > limits.bytesMax || own + bytes > limits.providerBytesMax) return true;
      total += bytes;
      ofProvider.set(provider, own + bytes);
      return false;
    });
}
