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
}

export const offerings: readonly Offering[] = [
  { name: 'small', cpuMillis: 1000, memoryBytes: 512 * bytesPerMebibyte, diskBytes: 128 * bytesPerMebibyte, pidsMax: 256 },
  { name: 'medium', cpuMillis: 2000, memoryBytes: 1024 * bytesPerMebibyte, diskBytes: 256 * bytesPerMebibyte, pidsMax: 512 },
  { name: 'large', cpuMillis: 4000, memoryBytes: 4096 * bytesPerMebibyte, diskBytes: 1024 * bytesPerMebibyte, pidsMax: 2048 },
];

export function findOffering(name: string): Offering | undefined {
  return offerings.find((offering) => offering.name === name);
}
