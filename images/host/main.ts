import { codeOf, Failure, messageOf } from '../../kit/errors.ts';
import { formatMs } from '../../kit/units.ts';
import { setUp } from './set-up.ts';

const usage = `Usage: sh images/host/bootstrap.sh images/host/main.ts [--quiet] [--json] [--for-tests]

Makes this machine ready for Edgepoint: Debian packages (no service is started), nats-server, a criu that really dumps and
restores on this kernel, the base root filesystem of instances. What is ready already is left alone.

  --quiet      say nothing when nothing had to be made
  --json       print the report as one JSON line on stdout
  --for-tests  make also what only tests use: a root filesystem with many runtimes and servers (1 GB)`;

async function main(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help')) {
    console.log(usage);
    return 0;
  }
  const unknown = argv.find((argument) => !['--quiet', '--json', '--for-tests'].includes(argument));
  if (unknown !== undefined) {
    console.error(`set-up: ${unknown} is not an option. See --help.`);
    return 2;
  }
  try {
    const report = await setUp((line) => console.error(`set-up: ${line}`), { forTests: argv.includes('--for-tests') });
    if (argv.includes('--json')) console.log(JSON.stringify(report));
    else if (!argv.includes('--quiet') || report.made.length > 0) {
      for (const [name, text] of Object.entries(report.choices)) console.error(`set-up: ${name}: ${text}`);
      console.error(`set-up: ready in ${formatMs(report.tookMs)}`);
    }
    return 0;
  } catch (thrown) {
    console.error(`set-up failed (${codeOf(thrown)}): ${messageOf(thrown)}`);
    if (thrown instanceof Failure && thrown.remedy !== '') console.error(`What to do: ${thrown.remedy}`);
    return 1;
  }
}

process.exit(await main(process.argv.slice(2)));
