import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { openClock } from '../host/clock.ts';
import { connectBus } from '../host/bus.ts';
import { readSettings } from '../host/config.ts';
import { openDatabase } from '../host/database.ts';
import { giveBackWhenQuiet } from '../host/give-back.ts';
import { serveHealth } from '../host/health.ts';
import { openLog } from '../host/log.ts';
import type { Log } from '../host/log.ts';
import { openMetrics } from '../host/metrics.ts';
import { Failure, codeOf, messageOf } from '../kit/errors.ts';
import { spendingBeatMessage } from '../kit/wire/spending.ts';
import { buckets, meteringBeatSubject, meteringQuerySubject, streams } from '../kit/wire/subjects.ts';
import { encodeMessage } from '../kit/wire/version.ts';
import { charges, checkCharges } from './charges.ts';
import { openIntake } from './intake.ts';
import { openLedger } from './ledger.ts';
import type { Ledger } from './ledger.ts';
import { printRefused, printReport } from './print.ts';
import { answerQuery, ask } from './query.ts';
import { ledgerSteps } from './schema.ts';
import { openSpendingTeller } from './spending.ts';
import type { SpendingTeller } from './spending.ts';
import { limitsOf, meteringSettings } from './settings.ts';
import type { MeteringSettings } from './settings.ts';

/** The consumer's name on the server: it remembers across restarts what has been acknowledged. */
const durable = 'metering';
/** Messages not yet acknowledged; together they bound what may wait for the ledger. */
const underWayMax = 1000;
/** A batch is on the disk within milliseconds: what is unacknowledged for longer belonged to a process that died. */
const redeliverAfterMs = 5000;
/** How often it says that it counts. */
const beatMs = 5000;

async function openOwnLedger(settings: MeteringSettings, log: Log): Promise<Ledger & { close(): void }> {
  const token = settings.databaseTokenFile === '' ? undefined : (await readFile(settings.databaseTokenFile, 'utf8')).trim();
  const options = { url: settings.databaseUrl, migrations: ledgerSteps, ...(token === undefined ? {} : { authToken: token }) };
  const client = await openDatabase(options, log);
  const clock = openClock();
  return { ...openLedger({ client, operator: settings.operator, limits: limitsOf(settings), wallMs: clock.wallMs }), close: () => client.close() };
}

/** For commands that only read: a ledger that is not there is said, not made (and then owned by whoever asked). */
async function openToRead(settings: MeteringSettings, log: Log): Promise<Ledger & { close(): void }> {
  const path = /^file:(?:\/\/)?([^?]+)/.exec(settings.databaseUrl)?.[1];
  if (path !== undefined && !existsSync(path)) {
    throw new Failure('no-ledger', `there is no ledger at ${path} yet`, { remedy: 'It is made when the daemon first starts.' });
  }
  return openOwnLedger(settings, log);
}

async function serve(argv: readonly string[]): Promise<void> {
  const settings = await readSettings(meteringSettings, argv, process.env);
  const log = openLog('metering');
  checkCharges(charges);
  const ledger = await openOwnLedger(settings, log);
  const metrics = openMetrics('metering');
  const records = metrics.counter('metering_records_total', 'Usage records taken in, by what became of them', ['outcome']);
  const batches = metrics.counter('metering_batches_total', 'Transactions of the ledger');
  const queries = metrics.counter('metering_queries_total', 'Questions answered');
  let spending: SpendingTeller | null = null;
  const intake = openIntake(ledger, ({ counted, repeated, refused, apps }) => {
    spending?.note(apps);
    batches.inc();
    records.inc({ outcome: 'counted' }, counted);
    records.inc({ outcome: 'repeated' }, repeated);
    for (const { subject, code, reason } of refused) {
      records.inc({ outcome: code });
      log.warn('a usage record was set aside', { subject, code, reason });
    }
  });

  const seed = (await readFile(settings.natsSeedFile, 'utf8')).trim();
  const bus = await connectBus({ url: settings.natsUrl, seed, name: 'metering' }, log);
  let fault = '';
  spending = openSpendingTeller({
    ledger,
    charges,
    currency: settings.currency,
    wallMs: openClock().wallMs,
    put: (key, text) => bus.putKv(buckets.spending, key, text),
    wakeIn: (ms, callback) => {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
    onFault: (failure) => log.warn('what was spent could not be told yet', { failure }),
  });
  const teller = spending;
  bus.onUp(() => teller.tellAll());
  const beating = setInterval(() => {
    if (fault === '' && teller.tells) bus.publish(meteringBeatSubject, encodeMessage(spendingBeatMessage, {}));
  }, beatMs);
  const consuming = await bus.consume(streams.usage, { durable, from: 'all', underWayMax, redeliverAfterMs }, async (subject, text) => {
    try {
      await intake.accept({ subject, text });
      fault = '';
    } catch (failure) {
      fault = messageOf(failure);
      log.error('the ledger did not take a record; the stream will bring it again', { code: codeOf(failure), reason: fault });
      throw failure;
    }
  });
  const answering = bus.reply(meteringQuerySubject, (text) => {
    queries.inc();
    return answerQuery(text, ledger, settings.currency, charges);
  });
  giveBackWhenQuiet();
  const health = serveHealth({
    listen: settings.health,
    metrics,
    check: () => ({ ok: bus.up && fault === '', detail: { bus: bus.up, ledger: fault === '' ? 'writable' : fault } }),
  });
  log.info('metering is up', { health: health.address, operator: settings.operator });

  let stopping = false;
  const stop = async (): Promise<void> => {
    if (stopping) return;
    stopping = true;
    consuming.stop();
    answering.stop();
    await intake.settled();
    clearInterval(beating);
    await teller.stop();
    await bus.close();
    health.stop();
    ledger.close();
    log.info('metering has stopped');
    process.exit(0);
  };
  process.on('SIGTERM', () => void stop());
  process.on('SIGINT', () => void stop());
}

/** `invoice PROVIDER [--json] --config FILE`: reads the ledger itself, so it answers while the daemon or the bus is away. */
async function invoice(argv: readonly string[]): Promise<void> {
  const asJson = argv.includes('--json');
  const [provider, ...options] = argv.filter((word) => word !== '--json');
  if (provider !== '--help' && (provider === undefined || provider.startsWith('-'))) {
    process.stderr.write('metering invoice: which provider? Write: metering invoice PROVIDER --config FILE [--json]\n');
    process.exit(2);
  }
  const settings = await readSettings(meteringSettings, provider === '--help' ? ['--help'] : options, process.env);
  const ledger = await openToRead(settings, openLog('metering invoice'));
  const report = await ask(ledger, { provider: provider ?? '', app: '' }, settings.currency, charges);
  process.stdout.write(asJson ? `${JSON.stringify(report, null, 2)}\n` : printReport(report, charges));
  ledger.close();
}

/** `refused --config FILE`: what was set aside, newest last, for a person to look at. */
async function refused(argv: readonly string[]): Promise<void> {
  const settings = await readSettings(meteringSettings, argv, process.env);
  const ledger = await openToRead(settings, openLog('metering refused'));
  process.stdout.write(printRefused(await ledger.refusedRows(1000)));
  ledger.close();
}

const [command, ...rest] = process.argv.slice(2);
try {
  if (command === 'invoice') await invoice(rest);
  else if (command === 'refused') await refused(rest);
  else await serve(process.argv.slice(2));
} catch (failure) {
  // A command answers a person; a daemon its log.
  if (failure instanceof Failure && (command === 'invoice' || command === 'refused')) {
    process.stderr.write(`metering ${command}: ${failure.message}\n${failure.remedy === '' ? '' : `${failure.remedy}\n`}`);
    process.exit(1);
  }
  openLog('metering').error('metering cannot go on', { failure });
  process.exit(1);
}
