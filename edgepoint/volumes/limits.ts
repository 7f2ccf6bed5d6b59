import { formatBytes } from '../../kit/units.ts';
import type { StoredVolume, VolumeLimits } from './ports.ts';

/** Why a volume's snapshots may not grow by so much; null when they may. `stored`: of all volumes, this one too. */
export function whyNoRoom(stored: readonly StoredVolume[], growth: { readonly provider: string; readonly newBytes: number }, limits: VolumeLimits): string | null {
  const sum = (of: readonly StoredVolume[]): number => of.reduce((bytes, one) => bytes + one.bytes, 0);
  const providers = sum(stored.filter(({ owner }) => owner.provider === growth.provider));
  const text = formatBytes(growth.newBytes);
  if (providers + growth.newBytes > limits.providerBytesMax) return `it takes ${text} more, your snapshots at this edgepoint take ${formatBytes(providers)}, and ${formatBytes(limits.providerBytesMax)} is what they may`;
  if (sum(stored) + growth.newBytes > limits.bytesMax) return `it takes ${text} more, and the edgepoint has no room for it in the object store`;
  return null;
}
