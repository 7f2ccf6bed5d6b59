import { writeSync } from 'node:fs';
import { giveBackWhenQuiet } from '../host/give-back.ts';
import { setTimeSlice, shortestSliceNs } from '../host/time-slice.ts';
import { Failure, messageOf } from '../kit/errors.ts';

/** The processes of an edgepoint and the two questions people ask one; each is loaded only when it is asked for. */
const commands: Readonly<Record<string, { about: string; run(argv: readonly string[]): Promise<void> }>> = {
  head: { about: 'plans instances and deploys releases', run: async (argv) => (await import('./head.ts')).runHead(argv) },
  dispatcher: { about: 'routes requests, and holds them while an instance wakes', run: async (argv) => (await import('./dispatcher.ts')).runDispatcher(argv) },
  snapd: { about: 'snapshots running instances (needs root)', run: async (argv) => (await import('./snapd.ts')).runSnapd(argv) },
  restored: { about: 'boots, restores and ends instances (needs root)', run: async (argv) => (await import('./restored.ts')).runRestored(argv) },
  identity: { about: 'the public keys by which other edgepoints know this one (needs root)', run: async (argv) => (await import('./identity.ts')).runIdentity(argv) },
  status: { about: 'how this edgepoint is, what it hosts and what runs: --run-folder DIR [--json]', run: async (argv) => (await import('./head/questions.ts')).runStatus(argv) },
  drain: {
    about: 'have end users sent elsewhere and everything put to sleep; ends when it is: --run-folder DIR [--timeout SECONDS] [--json]',
    run: async (argv) => (await import('./head/operator.ts')).runDrain(argv),
  },
  undrain: { about: 'take end users again: --run-folder DIR [--json]', run: async (argv) => (await import('./head/operator.ts')).runUndrain(argv) },
  explain: {
    about: 'why: --run-folder DIR [--app NAME] [--dump FILE], or --state FILE to plan again from a dump',
    run: async (argv) => (await import('./head/questions.ts')).runExplain(argv),
  },
};

function usage(): string {
  const lines = Object.entries(commands).map(([name, { about }]) => `  ${name.padEnd(12)}${about}`);
  return `edgepoint COMMAND [SETTINGS]\n\n${lines.join('\n')}\n\nEach process tells its settings with --help.\n`;
}

/** Those end when they are answered. */
const questions = new Set(['identity', 'status', 'drain', 'undrain', 'explain']);

const [name = '--help', ...rest] = process.argv.slice(2);
const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
if (command === undefined) {
  const asked = name === '--help' || name === '-h' || name === 'help';
  writeSync(asked ? 1 : 2, asked ? usage() : `there is no command ${JSON.stringify(name)}\n\n${usage()}`);
  process.exitCode = asked ? 0 : 2;
} else {
  try {
    const asksHow = rest.includes('--help') && questions.has(name);
    if (asksHow) writeSync(1, `edgepoint ${name}: ${command.about}\n`);
    else {
      if (!questions.has(name)) {
        giveBackWhenQuiet();
        setTimeSlice(0, shortestSliceNs); // instances have it too, and whoever has a longer one waits behind them
      }
      await command.run(rest);
    }
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    writeSync(2, `${messageOf(failure)}${failure.remedy === '' ? '' : `\n${failure.remedy}`}\n`);
    process.exitCode = 1;
  }
}
