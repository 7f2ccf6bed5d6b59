import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Failure } from '../../kit/errors.ts';
import { formatMs } from '../../kit/units.ts';
import { toolsFolder } from '../../host/tools.ts';
import { baseRoot } from './base-root.ts';
import { boxProgram } from './box.ts';
import { criu } from './criu.ts';
import { exampleApps } from './example-apps.ts';
import { debianPackages } from './debian-packages.ts';
import { withFileLock } from './file-lock.ts';
import { natsServer } from './nats-server.ts';
import { readableFiles } from './readable-files.ts';
import { readStamp, recipeHash, whyMake, writeStamp } from './step.ts';
import type { Step } from './step.ts';

/** In order: each step may use what those before it made. */
function steps(): readonly Step[] {
  const box = boxProgram();
  return [debianPackages, readableFiles, natsServer, criu, baseRoot, ...(box === null ? [] : [box]), exampleApps];
}

export interface SetUpReport {
  readonly tookMs: number;
  readonly made: readonly string[];
  /** What each step stands on, in the words of its making. */
  readonly choices: Readonly<Record<string, string>>;
}

/** Makes this machine ready; does nothing for what is ready already. Two at once wait for each other. Says one line for each thing made. */
export async function setUp(say: (line: string) => void): Promise<SetUpReport> {
  const startedMs = performance.now();
  if (process.getuid?.() !== 0) {
    throw new Failure('not-root', 'The set-up installs Debian packages and probes snapshots, so it must run as root.', { remedy: 'Try again with sudo.' });
  }
  mkdirSync(join(toolsFolder, 'bin'), { recursive: true });
  const made: string[] = [];
  const choices: Record<string, string> = {};
  await withFileLock(join(toolsFolder, 'set-up.lock'), () => say('another set-up is at work on this machine, waiting for it'), async () => {
    for (const step of steps()) {
      const outcome = await runStep(step, say);
      choices[step.name] = outcome.text;
      if (outcome.made) made.push(step.name);
    }
  });
  return { tookMs: performance.now() - startedMs, made, choices };
}

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
  const text = await step.make((line) => say(`${step.name}: ${line}`));
  writeStamp(toolsFolder, step.name, { recipeHash: hash, made: text });
  say(`${step.name}: ${text} (${formatMs(performance.now() - startedMs)})`);
  return { made: true, text };
}
