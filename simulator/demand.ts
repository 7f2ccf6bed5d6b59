import { bytesPerMebibyte } from '../kit/units.ts';
import { exponential, openChance } from './chance.ts';
import type { Chance } from './chance.ts';

/** One app of the day: what it is, and what its end users want of it. */
export interface SimulatedApp {
  readonly provider: string;
  readonly name: string;
  readonly offering: 'small' | 'medium';
  /** Requests one instance handles at once. */
  readonly concurrency: number;
  readonly max: number;
  readonly idleSeconds: number;
  /** Of a request, exponentially distributed; and what of it is processor time. */
  readonly meanServiceMs: number;
  readonly cpuMs: number;
  readonly answerBytes: number;
  /** Memory of a running instance; what a restore reads of it; what is kept on the disk. */
  readonly residentBytes: number;
  readonly imageBytes: number;
  readonly restBytes: number;
  readonly restoreMs: number;
  readonly coldBootMs: number;
  /** Requests a second, by the second of the day. */
  readonly rateAt: (second: number) => number;
  readonly meanRate: number;
  readonly peakRate: number;
}

export interface DemandOptions {
  readonly seed: number;
  readonly apps: number;
  /** Requests a second of all apps together, on the mean of the day, without crowds. */
  readonly meanRate: number;
  readonly hours: number;
}

interface Crowd {
  readonly fromSecond: number;
  /** Requests a second at its height. */
  readonly rate: number;
}

const secondsPerDay = 86_400;
/** A crowd comes within a minute and loses half of itself every seven. */
const crowdRiseSeconds = 60;
const crowdHalfSeconds = 420;
/** At its height, in multiples of what all apps together are wanted on the mean. */
const crowdTimes = { least: 4, most: 16 };
const crowdsPerDay = 4;
/** What is left of a provider's demand at its quietest, as a part of its mean. */
const nightShare = 0.06;
/** How unequal apps are: the r-th most wanted has 1 / r^this of the first one's demand. */
const inequality = 1.05;
/** The peak hours of the two providers: an office's tools in the morning, a shop's in the evening. */
const providers = [
  { name: 'office', peakHour: 10.5 },
  { name: 'shop', peakHour: 20 },
] as const;

/** Small and big programs as docs/MEASURED.md knows them; one app in twelve is big. */
const kinds = {
  small: { offering: 'small', residentBytes: 60, imageBytes: 11, restBytes: 2.1, restoreMs: 27, coldBootMs: 127, every: 1 },
  big: { offering: 'medium', residentBytes: 570, imageBytes: 530, restBytes: 110, restoreMs: 187, coldBootMs: 4000, every: 12 },
} as const;

/** The apps of a day, the same for the same seed: two providers whose peaks fall at different hours, quiet nights, flash crowds. */
export function planDemand(options: DemandOptions): readonly SimulatedApp[] {
  const chance = openChance(options.seed);
  const weights = Array.from({ length: options.apps }, (_, rank) => 1 / (rank + 1) ** inequality);
  const allWeight = weights.reduce((sum, weight) => sum + weight, 0);
  const crowds = planCrowds(options, chance);
  return weights.map((weight, index) => {
    const provider = providers[index % providers.length] as (typeof providers)[number];
    const kind = index % kinds.big.every === kinds.big.every - 1 ? kinds.big : kinds.small;
    const mean = (weight / allWeight) * options.meanRate;
    const shape = dayShape(provider.peakHour + (chance() - 0.5) * 3);
    const rateAt = (second: number): number => mean * shape(second) + crowdAt(crowds.get(index) ?? [], second);
    const rates = Array.from({ length: options.hours * 60 }, (_, minute) => rateAt(minute * 60));
    return {
      provider: provider.name,
      name: `${provider.name}-${index + 1}`,
      offering: kind.offering,
      concurrency: 2 + Math.floor(chance() * 7),
      max: 16,
      idleSeconds: 15,
      meanServiceMs: 20 + chance() * 100,
      cpuMs: 4 + chance() * 12,
      answerBytes: Math.round(2000 + exponential(chance, 20_000)),
      residentBytes: kind.residentBytes * bytesPerMebibyte,
      imageBytes: kind.imageBytes * bytesPerMebibyte,
      restBytes: kind.restBytes * bytesPerMebibyte,
      restoreMs: kind.restoreMs,
      coldBootMs: kind.coldBootMs,
      rateAt,
      meanRate: rates.reduce((sum, rate) => sum + rate, 0) / rates.length,
      peakRate: Math.max(...rates),
    };
  });
}

/** A day with one peak and a quiet night, whose mean is 1. */
function dayShape(peakHour: number): (second: number) => number {
  const wave = (second: number): number => ((1 + Math.cos((2 * Math.PI * (second - peakHour * 3600)) / secondsPerDay)) / 2) ** 3;
  const meanWave = 5 / 16; // of cos^6 over a period
  return (second) => nightShare + (1 - nightShare) * (wave(second) / meanWave);
}

/** Crowds find any app, as likely one that is wanted little. */
function planCrowds(options: DemandOptions, chance: Chance): ReadonlyMap<number, readonly Crowd[]> {
  const crowds = new Map<number, Crowd[]>();
  for (let count = 0; count < crowdsPerDay; count += 1) {
    const app = Math.floor(chance() * options.apps);
    const times = crowdTimes.least + chance() * (crowdTimes.most - crowdTimes.least);
    const crowd = { fromSecond: chance() * options.hours * 3600, rate: options.meanRate * times };
    crowds.set(app, [...(crowds.get(app) ?? []), crowd]);
  }
  return crowds;
}

function crowdAt(crowds: readonly Crowd[], second: number): number {
  let rate = 0;
  for (const crowd of crowds) {
    const since = second - crowd.fromSecond;
    if (since >= 0) rate += crowd.rate * Math.min(1, since / crowdRiseSeconds) * 0.5 ** (Math.max(0, since - crowdRiseSeconds) / crowdHalfSeconds);
  }
  return rate;
}

/** A request of an end user: when, in seconds of the day, and how long an instance works on it. */
export interface Arrival {
  readonly second: number;
  readonly serviceMs: number;
}

/** The requests of one app in their order: a Poisson process of changing rate, by thinning. The same for the same seed. */
export function* arrivalsOf(app: SimulatedApp, untilSecond: number, seed: number): Generator<Arrival> {
  const chance = openChance(seed);
  const most = app.peakRate * 1.1;
  for (let second = exponential(chance, 1 / most); second < untilSecond; second += exponential(chance, 1 / most)) {
    if (chance() * most < app.rateAt(second)) yield { second, serviceMs: exponential(chance, app.meanServiceMs) };
  }
}
