import { bytesPerMebibyte } from '../../kit/units.ts';

/** What an instance of this offering may use. Prices stand in metering's table of charges, by the same name. */
export interface Offering {
  readonly name: string;
  /** 1000 is one core. */
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  /** The private disk: a tmpfs, so what is written there also counts as memory. */
  readonly diskBytes: number;
  readonly pidsMax: number;
  /** Of the network, each way. */
  readonly networkBytesPerSecond: number;
  /** Reads of each volume, and as many writes. */
  readonly diskOperationsPerSecond: number;
}

/** In shares of 1 Gbit/s and 2,000 operations. */
function speed(shares: number): Pick<Offering, 'networkBytesPerSecond' | 'diskOperationsPerSecond'> {
  return { networkBytesPerSecond: shares * 125_000_000, diskOperationsPerSecond: shares * 2000 };
}

export const offerings: readonly Offering[] = [
  { name: 'small', cpuMillis: 1000, memoryBytes: 512 * bytesPerMebibyte, diskBytes: 128 * bytesPerMebibyte, pidsMax: 256, ...speed(1) },
  { name: 'medium', cpuMillis: 2000, memoryBytes: 1024 * bytesPerMebibyte, diskBytes: 256 * bytesPerMebibyte, pidsMax: 512, ...speed(2) },
  { name: 'large', cpuMillis: 4000, memoryBytes: 4096 * bytesPerMebibyte, diskBytes: 1024 * bytesPerMebibyte, pidsMax: 2048, ...speed(4) },
];

export function findOffering(name: string): Offering | undefined {
  return offerings.find((offering) => offering.name === name);
}
