import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Failure, messageOf } from '../kit/errors.ts';
import { bytesPerGibibyte, formatBytes, formatMs, microsPerUnit } from '../kit/units.ts';
import { liveOneDay } from './day.ts';
import type { DayResult, Stretch } from './day.ts';
import { arrivalsOf, planDemand } from './demand.ts';
import type { SimulatedApp } from './demand.ts';
import { plotPanels } from './plot.ts';

const usage = `usage: npm run simulate -- [options]
A day of one edgepoint, in virtual time: its own resource manager under the demand of hundreds of apps, beside capacity fixed
for the peak and for the mean.
  --apps N       how many apps (300)
  --rate N       requests a second of all apps together, on the mean of the day (20)
  --hours N      how long (24)
  --memory N     GiB of memory that may be promised to instances (24)
  --seed N       another day (1)
  --out FILE     where the plot is written (simulation.svg)
  --json         the figures as JSON`;

interface Options {
  readonly apps: number;
  readonly rate: number;
  readonly hours: number;
  readonly memory: number;
  readonly seed: number;
  readonly out: string;
  readonly json: boolean;
}

interface Variant {
  readonly name: string;
  readonly colour: string;
  readonly fixed: ((app: SimulatedApp) => number) | null;
}

const variants: readonly Variant[] = [
  { name: 'edgepoint', colour: '#0b6e4f', fixed: null },
  { name: 'fixed for the peak', colour: '#c1666b', fixed: (app) => instancesFor(app, app.peakRate) },
  { name: 'fixed for the mean', colour: '#4281a4', fixed: (app) => instancesFor(app, app.meanRate) },
];

/** As many as take that many requests a second, with twice the standard deviation of what is under way as a reserve. */
function instancesFor(app: SimulatedApp, rate: number): number {
  const underWay = (rate * app.meanServiceMs) / 1000;
  return Math.max(1, Math.ceil((underWay + 2 * Math.sqrt(underWay)) / app.concurrency));
}

async function main(): Promise<void> {
  const options = readOptions();
  const apps = planDemand({ seed: options.seed, apps: options.apps, meanRate: options.rate, hours: options.hours });
  const results: { variant: Variant; day: DayResult }[] = [];
  for (const variant of variants) {
    const day = await liveOneDay({
      apps,
      // The same requests for every variant.
      arrivals: (app, index) => arrivalsOf(app, options.hours * 3600, options.seed * 1_000_003 + index),
      seconds: options.hours * 3600,
      stretchSeconds: 600,
      // Whoever fixes numbers has bought what they need.
      capacityBytes: variant.fixed === null ? options.memory * bytesPerGibibyte : Infinity,
      frozenBytes: (options.memory / 4) * bytesPerGibibyte,
      fixed: variant.fixed,
      onProgress: (share) => progress(`${variant.name}: ${Math.floor(share * options.hours)} of ${options.hours} hours`),
    });
    results.push({ variant, day });
  }
  progress('');
  writeFileSync(options.out, plot(options, results));
  if (options.json) process.stdout.write(`${JSON.stringify(Object.fromEntries(results.map(({ variant, day }) => [variant.name, figuresOf(day)])))}\n`);
  else printTable(options, results);
}

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        apps: { type: 'string', default: '300' },
        rate: { type: 'string', default: '20' },
        hours: { type: 'string', default: '24' },
        memory: { type: 'string', default: '24' },
        seed: { type: 'string', default: '1' },
        out: { type: 'string', default: 'simulation.svg' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      say(usage);
      process.exit(0);
    }
    const between = (name: 'apps' | 'rate' | 'hours' | 'memory' | 'seed', least: number, most: number, whole: boolean): number => {
      const value = Number(values[name]);
      if (!(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
        throw new Failure('bad-option', `--${name} ${JSON.stringify(values[name])} is not ${whole ? 'a whole number' : 'a number'} from ${least} to ${most}`);
      }
      return value;
    };
    return {
      apps: between('apps', 1, 5000, true),
      rate: between('rate', 0.01, 1000, false),
      hours: between('hours', 1, 168, true),
      memory: between('memory', 1, 4096, false),
      seed: between('seed', 0, 2 ** 32 - 1, true),
      out: values.out,
      json: values.json,
    };
  } catch (thrown) {
    process.stderr.write(`${messageOf(thrown)}\n\n${usage}\n`);
    process.exit(2);
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`);
}

function percentileOf(sorted: Float64Array, part: number): number {
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? 0;
}

function meanOf(stretches: readonly Stretch[], value: (stretch: Stretch) => number): number {
  const seconds = stretches.reduce((sum, stretch) => sum + stretch.seconds, 0);
  return stretches.reduce((sum, stretch) => sum + value(stretch) * stretch.seconds, 0) / seconds;
}

function figuresOf(day: DayResult) {
  return {
    requests: day.requests,
    refused: day.refused,
    waitMsP50: percentileOf(day.waitsMs, 0.5),
    waitMsP99: percentileOf(day.waitsMs, 0.99),
    waitMsP999: percentileOf(day.waitsMs, 0.999),
    waitMsMax: percentileOf(day.waitsMs, 1),
    waitedShare: day.waitsMs.length === 0 ? 0 : 1 - lowerBound(day.waitsMs, Number.MIN_VALUE) / day.waitsMs.length,
    wakes: day.wakes,
    instanceHours: day.instanceHours,
    frozenHours: day.frozenHours,
    peakInstances: day.peakInstances,
    meanHeldBytes: meanOf(day.stretches, ({ heldBytes }) => heldBytes),
    peakHeldBytes: Math.max(...day.stretches.map(({ heldBytes }) => heldBytes)),
    costMicros: day.costMicros,
  };
}

/** How many of the sorted values are below. */
function lowerBound(sorted: Float64Array, value: number): number {
  let from = 0;
  let to = sorted.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((sorted[middle] as number) < value) from = middle + 1;
    else to = middle;
  }
  return from;
}

function printTable(options: Options, results: readonly { variant: Variant; day: DayResult }[]): void {
  const rows = results.map(({ variant, day }) => {
    const figures = figuresOf(day);
    return {
      name: variant.name,
      requests: figures.requests.toLocaleString('en'),
      refused: figures.refused.toLocaleString('en'),
      'had to wait': `${(figures.waitedShare * 100).toFixed(2)} %`,
      'wait p99': formatMs(figures.waitMsP99),
      'p99.9': formatMs(figures.waitMsP999),
      longest: formatMs(figures.waitMsMax),
      'instances, most': String(figures.peakInstances),
      wakes: figures.wakes.toLocaleString('en'),
      'instance hours': figures.instanceHours.toFixed(0),
      'frozen hours': figures.frozenHours.toFixed(0),
      'memory, mean': formatBytes(figures.meanHeldBytes),
      peak: formatBytes(figures.peakHeldBytes),
      cost: (figures.costMicros / microsPerUnit).toFixed(3),
    };
  });
  say(`${options.apps} apps of two providers, ${options.hours} h, ${options.rate} requests a second on the mean, seed ${options.seed}; waits are for an instance, cost is by the table of charges\n`);
  const names = Object.keys(rows[0] ?? {}) as (keyof (typeof rows)[number])[];
  for (const name of names) say(`${(name === 'name' ? '' : name).padEnd(16)}${rows.map((row) => row[name].padStart(22)).join('')}`);
  const [ours, peak, mean] = results.map(({ day }) => figuresOf(day));
  if (ours && peak && mean) {
    say(
      `\nThe edgepoint costs ${(ours.costMicros / peak.costMicros).toFixed(2)} times what is fixed for the peak and ${(ours.costMicros / mean.costMicros).toFixed(2)} times what is fixed for the mean, ` +
        `with ${(ours.meanHeldBytes / peak.meanHeldBytes).toFixed(2)} and ${(ours.meanHeldBytes / mean.meanHeldBytes).toFixed(2)} times the memory.`,
    );
  }
  say(`The plot: ${options.out}`);
}

function plot(options: Options, results: readonly { variant: Variant; day: DayResult }[]): string {
  const [first] = results;
  if (first === undefined) return '';
  const lines = (value: (stretch: Stretch, day: DayResult) => number) =>
    results.map(({ variant, day }) => ({ label: variant.name, colour: variant.colour, dashed: variant.fixed !== null, values: day.stretches.map((stretch) => value(stretch, day)) }));
  const demandColours = ['#6a4c93', '#e08e45'];
  return plotPanels(`A day of ${options.apps} apps on one edgepoint (seed ${options.seed})`, options.hours, [
    {
      title: 'Demand',
      unit: 'requests a second',
      series: first.day.providers.map((provider, index) => ({
        label: `provider ${provider}`,
        colour: demandColours[index % demandColours.length] as string,
        values: first.day.stretches.map((stretch) => (stretch.requests[index] ?? 0) / stretch.seconds),
      })),
    },
    { title: 'Instances that run', unit: 'mean of ten minutes', series: lines(({ instances }) => instances) },
    { title: 'Memory held, with that of frozen ones', unit: 'GiB', series: lines(({ heldBytes }) => heldBytes / bytesPerGibibyte) },
    { title: 'Wait for an instance', unit: 'ms, 99th percentile of ten minutes', logarithmic: true, series: lines(({ waitsMs }) => percentileOf(Float64Array.from(waitsMs).sort(), 0.99)) },
    { title: 'Cost since midnight', unit: 'in the operator’s currency', series: lines(({ costMicros }) => costMicros / microsPerUnit) },
  ]);
}

await main();
