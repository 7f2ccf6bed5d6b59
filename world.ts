import { isIPv4 } from 'node:net';
import { Command, InvalidArgumentError } from 'commander';
import { codeOf, Failure, messageOf } from './kit/errors.ts';
import { formatMs } from './kit/units.ts';
import { setUp } from './images/host/set-up.ts';
import { upgradeWorld } from './world/control.ts';
import { cleanDeadWorlds, findLeft, summary, withWorldsLock } from './world/clean.ts';
import { answerRequests } from './world/remote.ts';
import { startWorld } from './world/start.ts';
import { publicNpmRegistry } from './world/plan.ts';
import type { AcmePlan } from './world/plan.ts';
import type { World } from './world/start.ts';
import { runStory } from './world/story.ts';

interface StartOptions {
  readonly world?: string;
  readonly conduitAddress: string;
  readonly port: number;
  readonly data?: string;
  readonly acmeDirectory?: string;
  readonly acmeCa?: string;
  readonly acmeResolver?: string;
  readonly npmRegistry: string;
  readonly once?: boolean;
  readonly json?: boolean;
}

const say = (line: string): void => console.error(line);

/** The composition of all parts on one machine. Ctrl-C or SIGTERM ends it and removes everything. */
const program = new Command('npm start --')
  .description('Brings up a whole world on this machine: message bus, global dispatcher, conduit, metering and two edgepoints.')
  .enablePositionalOptions()
  .showHelpAfterError('(--help lists all options)');

function withStartOptions(command: Command): Command {
  return command
    .option('--world <id>', 'four characters of a-z and 0-9 that name this world (default: a free one)')
    .option('--conduit-address <ip>', 'where the conduit listens; 0.0.0.0 lets providers reach it from other machines', readAddress, '127.0.0.1')
    .option('--port <number>', "the conduit's port; 0 for any free one", readPort, 7700)
    .option('--data <folder>', 'keep databases, artefacts and snapshots there across runs (default: a temporary folder)')
    .option('--acme-directory <url>', 'ask this ACME authority for certificates (https); it must be able to ask the global dispatcher')
    .option('--acme-ca <file>', "who vouches for that authority's own server, as PEM (default: the public ones)")
    .option('--acme-resolver <address>', "with it, providers' own domains are looked up at this resolver (default: the machine's)")
    .option('--npm-registry <url>', 'where builds of Node apps have their packages from, as this machine reaches it', publicNpmRegistry);
}

function readAddress(text: string): string {
  if (!isIPv4(text)) throw new InvalidArgumentError('It is an IPv4 address.');
  return text;
}

function readPort(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535) throw new InvalidArgumentError('A port is a number from 0 to 65535.');
  return port;
}

withStartOptions(program)
  .option('--once', 'do the story and end with its verdict as exit code')
  .action(async (options: StartOptions) => {
    await setUp((line) => say(`set-up: ${line}`));
    process.exitCode = await hold(options, async (world) => {
      const isWell = await runStory(world, say);
      if (options.once === true) return isWell ? 0 : 1;
      say('Ctrl-C ends the world and leaves nothing behind.');
      return null;
    });
  });

withStartOptions(program.command('up'))
  .description('set nothing up, tell no story: bring the world up and hold it until SIGTERM (with --json also until stdin closes)')
  .option('--json', 'print one line that describes the world when it is ready, then answer requests, one JSON line each, from stdin')
  .action(async (options: StartOptions) => {
    process.exitCode = await hold(options, async (world) => {
      if (options.json !== true) return null;
      console.log(JSON.stringify(world.describe()));
      await answerRequests(world, process.stdin, (line) => console.log(line));
      return 0;
    });
  });

program
  .command('upgrade')
  .description('have each daemon of a world that is up end and begin again, one after the other, from what lies in this clone now; no request is lost')
  .option('--world <id>', 'which world (default: the only one that is up)')
  .option('--no-set-up', 'the machine has been set up for that version already')
  .action(async ({ world, setUp: sets }: { world?: string; setUp: boolean }) => {
    if (sets) await setUp((line) => say(`set-up: ${line}`));
    await upgradeWorld(world ?? null, (line) => console.log(line));
  });

program
  .command('clean')
  .description('remove what worlds left whose process was killed; worlds that are up are not touched')
  .action(async () => {
    const removed = await withWorldsLock(say, () => cleanDeadWorlds(() => undefined));
    if (removed.length === 0) console.log('Nothing was left to remove.');
    for (const { world, things } of removed) {
      console.log(`World ${world}: removed ${summary(things)}`);
      for (const thing of things) console.log(`  ${thing}`);
    }
  });

program
  .command('left')
  .description('list what worlds left whose process was killed, one thing on each line, and remove nothing')
  .action(async () => {
    for (const thing of await withWorldsLock(say, findLeft)) console.log(thing);
  });

function acmeOf({ acmeDirectory, acmeCa = '', acmeResolver = '' }: StartOptions): AcmePlan | null {
  return acmeDirectory === undefined ? null : { directoryUrl: acmeDirectory, caFile: acmeCa, resolver: acmeResolver };
}

/** Brings a world up, lets `work` use it (null: hold it until a signal), and takes it down whatever happens. Returns the exit code. */
async function hold(options: StartOptions, work: (world: World) => Promise<number | null>): Promise<number> {
  const ending = new AbortController();
  const signalled = new Promise<number>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        if (!ending.signal.aborted) say(`\n${signal}: ending the world ...`);
        ending.abort(new Failure('ended', `ended by ${signal}`));
        resolve(0);
      });
    }
  });
  const broken = new Promise<number>((resolve) => {
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
      process.on(event, (thrown: unknown) => {
        say(`edgepoint: ${thrown instanceof Error ? thrown.stack : String(thrown)}`);
        ending.abort(new Failure('broken', 'the world is ended because of the error above'));
        resolve(1);
      });
    }
  });
  const startedMs = performance.now();
  const world = await startWorld({ id: options.world ?? null, conduitHost: options.conduitAddress, conduitPort: options.port, dataFolder: options.data ?? null, acme: acmeOf(options), npmRegistry: options.npmRegistry, say, signal: ending.signal });
  try {
    const { id, absent } = world.describe();
    say(`World ${id} is up after ${formatMs(performance.now() - startedMs)}.`);
    if (absent.length > 0) say(`Not in this clone: ${absent.join(', ')}`);
    return await Promise.race([signalled, broken, work(world).then((exitCode) => exitCode ?? signalled)]);
  } finally {
    await world.stop();
  }
}

try {
  await program.parseAsync();
} catch (thrown) {
  if (codeOf(thrown) === 'ended') process.exitCode = 130;
  else {
    say(`edgepoint: ${messageOf(thrown)}`);
    if (thrown instanceof Failure && thrown.remedy !== '') say(`What to do: ${thrown.remedy}`);
    process.exitCode = codeOf(thrown) === 'not-root' ? 2 : 1;
  }
}
process.exit();
