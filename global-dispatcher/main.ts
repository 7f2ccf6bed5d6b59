import { readFileSync } from 'node:fs';
import { connectBus } from '../host/bus.ts';
import { openClock } from '../host/clock.ts';
import { readSettings } from '../host/config.ts';
import { giveBackWhenQuiet } from '../host/give-back.ts';
import { serveHealth } from '../host/health.ts';
import { openLog } from '../host/log.ts';
import { openMetrics } from '../host/metrics.ts';
import { Failure, messageOf } from '../kit/errors.ts';
import { openDispatcher } from './dispatcher.ts';
import { explainCommand } from './explain.ts';
import { settings } from './settings.ts';

/** `global-dispatcher/main.ts [--config FILE]` serves; `global-dispatcher/main.ts explain NAME --from ADDRESS --state FILE` replays a choice. */
async function main(argv: readonly string[]): Promise<void> {
  if (argv[0] === 'explain') {
    process.stdout.write(await explainCommand(argv.slice(1), process.env));
    return;
  }
  const read = await readSettings(settings, argv, process.env);
  const log = openLog('global-dispatcher');
  const metrics = openMetrics('global-dispatcher');
  const seed = readSeed(read.natsSeedFile);
  const dispatcher = await openDispatcher(read, {
    clock: openClock(),
    log,
    metrics,
    bus: connectBus({ url: read.natsUrl, seed, name: 'global-dispatcher' }, log),
  });
  giveBackWhenQuiet();
  const health = read.health === '' ? null : serveHealth({ listen: read.health, metrics, check: dispatcher.check });
  log.info('answering', { zone: read.zoneName, at: dispatcher.addresses, health: health?.address ?? '' });
  const stop = (): void => {
    health?.stop();
    void dispatcher.stop().then(() => process.exit(0), () => process.exit(1));
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}

function readSeed(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (thrown) {
    throw new Failure('bad-setting', `natsSeedFile: ${messageOf(thrown)}`, { remedy: 'Name the file with the NKEY seed that the message cluster knows this daemon by.', cause: thrown });
  }
}

try {
  await main(process.argv.slice(2));
} catch (thrown) {
  if (!(thrown instanceof Failure)) throw thrown;
  process.stderr.write(`global-dispatcher: ${messageOf(thrown)}\n${thrown.remedy === '' ? '' : `${thrown.remedy}\n`}`);
  process.exit(2);
}
