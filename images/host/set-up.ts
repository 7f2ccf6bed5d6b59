import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Failure } from '../../kit/errors.ts';
import { formatMs } from '../../kit/units.ts';
import { tools, toolsFolder } from '../../host/tools.ts';
import { baseRoot } from './base-root.ts';
import { boxProgram } from './box.ts';
import { buildTools } from './build-tools.ts';
import { cloneGuardIn } from './clone-guard.ts';
import { criu, peerCriu } from './criu.ts';
import { exampleApps } from './example-apps.ts';
import { removeUnfinished } from './debian-extract.ts';
import { debianForTests, debianPackages, debianPeers } from './debian-packages.ts';
import { withFileLock } from './file-lock.ts';
import { imageBase } from './image-base.ts';
import { hugePages } from './huge-pages.ts';
import { natsServer } from './nats-server.ts';
import { pageFaults } from './page-faults.ts';
import { readableFiles } from './readable-files.ts';
import { runtimesRoot } from './runtimes-root.ts';
import { readStamp, recipeHash, whyMake, writeStamp } from './step.ts';
import type { Step } from './step.ts';
import { zram } from './zram.ts';

/** Groups in order: each may use what those before it made. The steps of one group are made at the same time: they mostly wait for the network. */
function stepGroups(options: SetUpOptions): readonly (readonly Step[])[] {
  const forTests = options.forTests ? [runtimesRoot] : [];
  const packagesForTests = options.forTests ? [debianForTests] : [];
  const roots = [tools.baseRoot, tools.imageBase, ...(options.forTests ? [tools.runtimesRoot] : [])];
  const forBenches = options.forBenches ? [debianPeers] : [];
  const peers = options.forBenches ? [peerCriu] : [];
  return [[debianPackages, readableFiles, hugePages, pageFaults], packagesForTests, forBenches, [zram, natsServer, criu, baseRoot, imageBase, boxProgram, buildTools, exampleApps, ...forTests], [...roots.map(cloneGuardIn), ...peers]];
}

export interface SetUpOptions {
  /** Also makes what only tests use. */
  readonly forTests?: boolean;
  /** Also installs the peers that benchmarks run beside us. */
  readonly forBenches?: boolean;
}

export interface SetUpReport {
  readonly tookMs: number;
  readonly made: readonly string[];
  /** What each step stands on, in the words of its making. */
  readonly choices: Readonly<Record<string, string>>;
}

/** Makes this machine ready; does nothing for what is ready already. Two at once wait for each other. Says one line for each thing made. */
export async function setUp(say: (line: string) => void, options: SetUpOptions = {}): Promise<SetUpReport> {
  const startedMs = performance.now();
  if (process.getuid?.() !== 0) {
    throw new Failure('not-root', 'The set-up installs Debian packages and probes snapshots, so it must run as root.', { remedy: 'Try again with sudo.' });
  }
  mkdirSync(join(toolsFolder, 'bin'), { recursive: true });
  const made: string[] = [];
  const choices: Record<string, string> = {};
  await withFileLock(join(toolsFolder, 'set-up.lock'), () => say('another set-up is at work on this machine, waiting for it'), async () => {
    removeUnfinished();
    for (const group of stepGroups(options)) {
      const outcomes = await Promise.allSettled(group.map((step) => runStep(step, say)));
      // What could be made stays made, so that the next set-up has less to do.
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      for (const [place, outcome] of outcomes.entries()) {
        const name = group[place]?.name;
        if (name === undefined || outcome.status === 'rejected') continue;
        choices[name] = outcome.value.text;
        if (outcome.value.made) made.push(name);
      }
    }
  });
  return { tookMs: performance.now() - startedMs, made, choices };
}

const tickMs = 15_000;

async function runStep(step: Step, say: (line: string) => void): Promise<{ made: boolean; text: string }> {
  const startedMs = performance.now();
  const hash = recipeHash(step.recipe);
  const stamp = readStamp(toolsFolder, step.name);
  const why = whyMake({ stamp, hash, missing: await step.missing(), takeOver: step.takeOver });
  if (why === null) {
    if (stamp === null) writeStamp(toolsFolder, step.name, { recipeHash: hash, made: 'found here, and it works' });
    return { made: false, text: stamp?.made ?? 'found here, and it works' };
  }
  say(`${step.name}: ${why}`);
  const elapsed = (): string => formatMs(performance.now() - startedMs);
  const ticking = setInterval(() => say(`${step.name}: at work for ${elapsed()}`), tickMs);
  const text = await step.make((line) => say(`${step.name}: ${line}`)).finally(() => clearInterval(ticking));
  writeStamp(toolsFolder, step.name, { recipeHash: hash, made: text });
  say(`${step.name}: ${text} (${elapsed()})`);
  return { made: true, text };
}
