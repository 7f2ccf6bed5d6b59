#!/usr/bin/env node
import { createInterface } from 'node:readline/promises';
import { Command, CommanderError, Option } from 'commander';
import { Failure, codeOf, messageOf } from '../../kit/errors.ts';
import { isCanary } from '../../kit/ids.ts';
import { nearestWord } from '../../kit/nearest-word.ts';
import { usageReportSchema } from '../../kit/wire/usage.ts';
import { abortedAnswerSchema, accessesAnswerSchema, appAnswerSchema, appsAnswerSchema, deletedAnswerSchema, domainRemovedSchema, domainsAnswerSchema, logLineSchema, loginAnswerSchema, releasesAnswerSchema, volumesAnswerSchema } from '../api/answers.ts';
import { describeCapCommands } from './caps.ts';
import { checkFolder } from './check.ts';
import { openClient } from './client.ts';
import type { Client } from './client.ts';
import { credentialsSchema, readCredentials, writeCredentials } from './credentials.ts';
import { listEnv, listSecrets, setEnv, setSecret, unsetNames } from './configuration.ts';
import type { ChangeOptions } from './configuration.ts';
import { deployFolder, moveCanary, rollBack } from './deploy.ts';
import { deployImage } from './image/send.ts';
import type { ImageOptions } from './image/send.ts';
import { addDomain, showDomains } from './domains.ts';
import { showAccesses } from './audit.ts';
import { connectApp, readPorts } from './connect.ts';
import { changeMessage, listQueues, sendMessage } from './queues.ts';
import { exitCodeOf, exitCodesText, sessionFailedExit } from './exit-codes.ts';
import { initFolder } from './init.ts';
import { manifestFile } from '../manifest/read.ts';
import { runSession } from './ssh.ts';
import { showApps, showReleases, showStatus, showUsage } from './show.ts';
import { describeVolumes, showVolumes } from './volumes.ts';
import { harmless, openTerminal } from './terminal.ts';
import type { Terminal } from './terminal.ts';

const env = process.env;
const connect = async (): Promise<Client> => openClient(await readCredentials(env));

/** Adds what every command has: `--json`, and examples at the end of its help. */
function command(program: Command, usage: string, about: string, examples: readonly string[], options: { readonly isDefault?: boolean } = {}): Command {
  return program
    .command(usage, options)
    .description(about)
    .addOption(new Option('--json', 'print JSON only; failures as JSON on stderr'))
    .addHelpText('after', `\nExamples:\n${examples.map((example) => `  $ ${example}`).join('\n')}\n`);
}

const terminalOf = (self: Command): Terminal => openTerminal({ json: self.optsWithGlobals()['json'] === true, env });

type DeployOptions = Omit<ImageOptions, 'image'> & { readonly image?: string };

function describeProgram(): Command {
  const program = new Command('conduit')
    .description('Deploys applications to edgepoints, where they cost nothing while nobody uses them.')
    .option('--json', 'print JSON only; failures as JSON on stderr')
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .showSuggestionAfterError()
    .addHelpText('after', `\nExamples:\n  $ conduit login https://conduit.example --token ep_…\n  $ conduit init\n  $ conduit check\n  $ conduit deploy\n  $ conduit status hello\n\n${exitCodesText}`);

  command(program, 'login <url>', 'Remembers a conduit and your token for it.', ['conduit login https://conduit.example --token ep_…', 'CONDUIT_TOKEN=ep_… conduit login https://conduit.example'])
    .option('--token <token>', 'the token the operator gave you (default: CONDUIT_TOKEN)')
    .action(async (url: string, options: { token?: string }, self: Command) => login(url, options.token ?? env['CONDUIT_TOKEN'] ?? '', terminalOf(self)));

  command(program, 'init [folder]', 'Writes a commented edgepoint.toml, guessed from what is there.', ['conduit init', 'conduit init ./server']).action(
    async (folder: string | undefined, _options: unknown, self: Command) => initFolder(folder ?? '.', terminalOf(self)),
  );

  command(program, 'check [folder]', 'Has an edgepoint try the app in a folder and tells what a deploy would find; nothing of it stays.', ['conduit check', 'conduit check ./server', 'conduit check --json | jq .']).action(
    async (folder: string | undefined, _options: unknown, self: Command) => checkFolder(folder ?? '.', connect, terminalOf(self)),
  );

  command(program, 'deploy [folder]', 'Sends the app in a folder to the edgepoints and shows how it goes.', ['conduit deploy', 'conduit deploy ./server', 'conduit deploy --canary 10', 'conduit deploy --image shop.tar --name shop', 'conduit deploy --image registry.example/team/shop:1.2', 'conduit deploy --settle 60', 'conduit deploy --no-watch', 'conduit deploy --json | jq .'])
    .addOption(new Option('--canary <percent>', 'it gets this part of the requests, beside the release that serves').argParser(parsePercent))
    .option('--image <image>', 'an image in place of a folder: what `docker save` or `podman save` wrote, an OCI layout, or a name in a registry')
    .option('--name <app>', 'with --image: the name of the app (default: that of edgepoint.toml here, or of the image)')
    .addOption(new Option('--registry-timeout <seconds>', 'with --image: how long a registry may say nothing (default: 60)').argParser(parseSeconds))
    .addOption(new Option('--port <port>', 'with --image: where it answers HTTP (default: what it exposes)').argParser(parsePort))
    .addOption(new Option('--settle <seconds>', 'after it is ready, watch for so long whether it is taken back for its failures').argParser(parseWatch))
    .option('--no-watch', 'return as soon as the conduit has it')
    .action(async (folder: string | undefined, options: DeployOptions, self: Command) => {
      const { image, name, port } = options;
      if (image !== undefined) return deployImage(folder ?? '.', { ...options, image }, connect, terminalOf(self));
      if (name !== undefined || port !== undefined) throw new Failure('command-line', '--name and --port go with --image alone', { remedy: 'Write them into edgepoint.toml.' });
      return deployFolder(folder ?? '.', options, connect, terminalOf(self));
    });

  command(program, 'releases <app>', 'Lists the releases of an app, and which of them can be gone back to.', ['conduit releases hello']).action(
    async (app: string, _options: unknown, self: Command) => {
      const terminal = terminalOf(self);
      const answer = await forApp(app, (client, path) => client.get(`${path}/releases`, releasesAnswerSchema));
      terminal.tell(answer);
      showReleases(answer, terminal);
    },
  );

  command(program, 'rollback <app>', 'Has an earlier release serve again, from the template it left.', ['conduit rollback hello', 'conduit rollback hello --to 3'])
    .addOption(new Option('--to <release>', 'which one (default: the one before)').argParser(parseRelease))
    .option('--no-watch', 'return as soon as the conduit has it')
    .action(async (app: string, { to, watch }: { to?: number; watch: boolean }, self: Command) => rollBack(app, { to: to ?? null, watch }, await connect(), terminalOf(self)));

  describeConfiguration(program);

  command(program, 'canary <app>', 'Gives the canary of an app another part of its requests.', ['conduit canary hello --percent 50'])
    .addOption(new Option('--percent <percent>', 'of the requests, 1 to 99').argParser(parsePercent).makeOptionMandatory())
    .option('--no-watch', 'return as soon as the conduit has it')
    .action(async (app: string, { percent, watch }: { percent: number; watch: boolean }, self: Command) => moveCanary(app, { percent, watch }, await connect(), terminalOf(self)));

  command(program, 'promote <app>', 'Has the canary of an app serve, in place of the release that does.', ['conduit promote hello'])
    .option('--no-watch', 'return as soon as the conduit has it')
    .action(async (app: string, { watch }: { watch: boolean }, self: Command) => moveCanary(app, { percent: null, watch }, await connect(), terminalOf(self)));

  command(program, 'abort <app>', 'Takes the canary of an app away; the release that serves has all requests.', ['conduit abort hello']).action(
    async (app: string, _options: unknown, self: Command) => {
      const terminal = terminalOf(self);
      const answer = await forApp(app, (client, path) => client.send('DELETE', `${path}/canary`, abortedAnswerSchema));
      terminal.tell(answer);
      terminal.say(`Release ${answer.aborted} is no canary of ${app} any more.`);
    },
  );

  command(program, 'list', 'Lists your apps.', ['conduit list', 'conduit list --json'])
    .alias('ls')
    .action(async (_options: unknown, self: Command) => {
      const terminal = terminalOf(self);
      const answer = await (await connect()).get('/apps', appsAnswerSchema);
      terminal.tell(answer);
      showApps(answer.apps, terminal);
    });

  command(program, 'status <app>', 'Shows an app at each of its edgepoints, and why it is awake or failed.', ['conduit status hello']).action(
    async (app: string, _options: unknown, self: Command) => {
      const terminal = terminalOf(self);
      const answer = await forApp(app, (client, path) => client.get(path, appAnswerSchema));
      terminal.tell(answer);
      showStatus(answer, terminal);
      // Of a volume that is full the program's own errors may be the only other word.
      if (answer.volumes.length > 0 && !terminal.json) showVolumes(await forApp(app, (client, path) => client.get(`${path}/volumes`, volumesAnswerSchema)), terminal);
    },
  );

  describeDomains(program);
  describeQueues(program);
  describeVolumes(program, { command, connect, terminalOf, forApp });

  command(program, 'logs <app>', 'Prints what an app has written, from every edgepoint.', ['conduit logs hello', 'conduit logs hello -f', 'conduit logs hello -n 20'])
    .option('-f, --follow', 'go on with what it writes from now on')
    .addOption(new Option('-n, --last <lines>', 'how many of the last entries').default(200).argParser(parseCount))
    .action(async (app: string, options: { follow?: boolean; last: number }, self: Command) => showLogs(app, options, terminalOf(self)));

  command(program, 'connect <app> <port>', 'Leads a port of this machine to a port of an instance of an app, which it wakes and keeps awake.', ['conduit connect shop 5432', 'conduit connect shop 5432:15432', 'conduit connect shop 6379:0 --at eu/paris'])
    .option('--at <edgepoint>', 'at which edgepoint (default: one where it is awake, or the first)')
    .action(async (app: string, ports: string, { at }: { at?: string }, self: Command) => {
      const order = { app, ...readPorts(ports), at: at ?? null };
      // Says what is wrong with the name or the token before anybody connects.
      await forApp(app, (client, path) => client.get(path, appAnswerSchema));
      await connectApp(order, await connect(), terminalOf(self));
    });

  command(program, 'ssh <app> [command...]', 'Opens a shell in an instance of an app, which it wakes and keeps awake, or runs a command there.', ['conduit ssh shop', 'conduit ssh shop -- node --version', 'conduit ssh shop -- sh < script.sh'])
    .option('--at <edgepoint>', 'at which edgepoint (default: one where it is awake, or the first)')
    .option('-t, --tty', 'give the command a terminal')
    .option('-T, --no-tty', 'give it none: stdin, stdout and stderr apart')
    .action(async (app: string, words: string[], { at, tty }: { at?: string; tty?: boolean }) => {
      await forApp(app, (client, path) => client.get(path, appAnswerSchema));
      const query = at === undefined ? '' : `?${new URLSearchParams({ at }).toString()}`;
      process.exit(await runSession({ path: `/ssh${query}`, app, command: words, tty }, await connect()));
    });

  command(program, 'run <app> <command...>', 'Runs a command in an instance of its own, with the release and the variables of an app, and removes it.', ['conduit run shop -- node migrate.js', 'conduit run shop --timeout 86400 -- ./nightly < input'])
    .option('--at <edgepoint>', 'at which edgepoint (default: one where it is awake, or the first)')
    .addOption(new Option('--timeout <seconds>', 'how long it may take, up to 86400').default(3600).argParser(parseRunSeconds))
    .option('-t, --tty', 'give the command a terminal')
    .option('-T, --no-tty', 'give it none: stdin, stdout and stderr apart')
    .action(async (app: string, words: string[], { at, timeout, tty }: { at?: string; timeout: number; tty?: boolean }) => {
      await forApp(app, (client, path) => client.get(path, appAnswerSchema));
      const query = new URLSearchParams({ timeout: String(timeout), ...(at === undefined ? {} : { at }) });
      process.exit(await runSession({ path: `/run?${query.toString()}`, app, command: words, tty }, await connect()));
    });

  command(program, 'audit <app>', 'Lists who opened an instance of an app, when, and what for: `connect`, `ssh` and `run`.', ['conduit audit shop', 'conduit audit shop -n 500 --json'])
    .addOption(new Option('-n, --last <entries>', 'how many of the last').default(50).argParser(parseCount))
    .action(async (app: string, { last }: { last: number }, self: Command) => {
      const terminal = terminalOf(self);
      const answer = await forApp(app, (client, path) => client.get(`${path}/accesses?last=${Math.min(1000, Math.max(1, last))}`, accessesAnswerSchema));
      terminal.tell(answer);
      showAccesses(answer, terminal);
    });

  command(program, 'usage [app]', 'Shows what you used and what it costs so far.', ['conduit usage', 'conduit usage hello']).action(
    async (app: string | undefined, _options: unknown, self: Command) => {
      const terminal = terminalOf(self);
      const report = await (await connect()).get(`/usage${app === undefined ? '' : `?app=${encodeURIComponent(app)}`}`, usageReportSchema);
      terminal.tell(report);
      showUsage(report, terminal);
    },
  );

  describeCapCommands(program, { command, connect, terminalOf });

  command(program, 'delete <app>', 'Deletes an app everywhere, with its releases; its name is free again.', ['conduit delete hello', 'conduit delete hello --yes'])
    .option('-y, --yes', 'do not ask')
    .action(async (app: string, options: { yes?: boolean }, self: Command) => {
      const terminal = terminalOf(self);
      if (options.yes !== true) await confirmDelete(app);
      terminal.tell(await forApp(app, (client, path) => client.send('DELETE', path, deletedAnswerSchema)));
      terminal.say(`${app} is deleted.`);
    });
  return program;
}

/** `conduit env …` and `conduit secrets …`; each change is a release of its own. */
function describeConfiguration(program: Command): void {
  const changes = (parent: Command, usage: string, about: string, examples: readonly string[]): Command =>
    command(parent, usage, about, examples).option('--app <app>', `the app (default: that of ${manifestFile} here)`).option('--no-watch', 'return as soon as the conduit has it');
  const lists = (parent: Command, about: string, example: string): Command => command(parent, 'list', about, [example]).option('--app <app>', `the app (default: that of ${manifestFile} here)`);

  const env = program.command('env').description('Variables of an app, set over those of its manifest; everybody who may list them reads them.');
  changes(env, 'set <variables...>', 'Sets variables, as NAME=VALUE; the app is rolled over without a lost request.', ['conduit env set LOG=debug REGION=eu --app hello']).action(
    async (words: string[], options: ChangeOptions, self: Command) => setEnv(words, options, connect, terminalOf(self)),
  );
  lists(env, 'Lists variables, those of the manifest too.', 'conduit env list --app hello').action(async (options: { app?: string }, self: Command) => listEnv(options, connect, terminalOf(self)));
  changes(env, 'unset <names...>', 'Takes away what was set; what the manifest says counts again.', ['conduit env unset LOG --app hello']).action(
    async (names: string[], options: ChangeOptions, self: Command) => unsetNames('env', names, options, connect, terminalOf(self)),
  );

  const secrets = program.command('secrets').description('Secrets of an app: variables and files of /run/secrets, which nobody can read back.');
  const sets = (usage: string, about: string, mustBeSet: boolean, examples: readonly string[]): Command =>
    changes(secrets, usage, about, examples)
      .option('--file <file>', 'the value is what this file holds (default: stdin, or you are asked for it)')
      .action(async (name: string, options: ChangeOptions & { file?: string }, self: Command) => setSecret(name, { ...options, mustBeSet }, connect, terminalOf(self)));
  sets('set <name>', 'Sets a secret; the app is rolled over without a lost request.', false, ['conduit secrets set DATABASE_URL --app hello < url.txt', 'conduit secrets set TLS_KEY --file key.pem']);
  sets('rotate <name>', 'Sets a secret anew that is set already.', true, ['conduit secrets rotate DATABASE_URL --app hello < url.txt']);
  lists(secrets, 'Lists names, and since which release each has its value.', 'conduit secrets list --app hello').action(async (options: { app?: string }, self: Command) => listSecrets(options, connect, terminalOf(self)));
  changes(secrets, 'unset <names...>', 'Takes secrets away.', ['conduit secrets unset DATABASE_URL --app hello']).action(
    async (names: string[], options: ChangeOptions, self: Command) => unsetNames('secrets', names, options, connect, terminalOf(self)),
  );
}

function describeQueues(program: Command): void {
  const queue = program.command('queue').description('Messages that wake your app ([[queue]] in edgepoint.toml).');
  const ofApp = (usage: string, about: string, example: string): Command => command(queue, usage, about, [example]).option('--app <app>', `the app (default: that of ${manifestFile} here)`);
  ofApp('send <queue>', 'Sends a message: what a file holds, or what comes by stdin.', 'echo 42 | conduit queue send jobs --app hello')
    .option('--file <file>', 'the message')
    .option('--type <type>', 'its Content-Type', 'application/octet-stream')
    .action(async (name: string, options: { app?: string; file?: string; type: string }, self: Command) => sendMessage(name, options, connect, terminalOf(self)));
  ofApp('list', 'Lists queues, what waits in them, and what was put aside.', 'conduit queue list --app hello').action(
    async (options: { app?: string }, self: Command) => listQueues(options, connect, terminalOf(self)),
  );
  ofApp('retry <queue> <id>', 'Has a message that was put aside tried again.', 'conduit queue retry jobs msg-abc --app hello').action(
    async (name: string, id: string, options: { app?: string }, self: Command) => changeMessage('retry', { queue: name, id }, options, connect, terminalOf(self)),
  );
  ofApp('delete <queue> <id>', 'Deletes a message that waits or was put aside.', 'conduit queue delete jobs msg-abc --app hello').action(
    async (name: string, id: string, options: { app?: string }, self: Command) => changeMessage('delete', { queue: name, id }, options, connect, terminalOf(self)),
  );
}

function describeDomains(program: Command): void {
  const domains = program.command('domains').description('Leads domains of your own to your apps, with HTTPS.');
  command(domains, 'add <domain>', 'Says which record to set, and watches until it is there and has its certificate.', ['conduit domains add shop.example.com --app shop'])
    .requiredOption('--app <app>', 'the app it shall lead to')
    .option('--no-watch', 'say which record to set, and end')
    .action(async (domain: string, { app, watch }: { app: string; watch: boolean }, self: Command) => {
      const conduit = await connect();
      await addDomain(domain.toLowerCase().replace(/\.$/, ''), { app, watch }, conduit, terminalOf(self));
    });
  command(domains, 'list', 'Lists your domains, what they wait for, and how long their certificates last.', ['conduit domains list', 'conduit domains list --json']).action(
    async (_options: unknown, self: Command) => {
      const terminal = terminalOf(self);
      const answer = await (await connect()).get('/domains', domainsAnswerSchema);
      terminal.tell(answer);
      showDomains(answer.domains, terminal);
    },
  );
  command(domains, 'remove <domain>', 'Leads a domain to your app no longer.', ['conduit domains remove shop.example.com']).action(async (domain: string, _options: unknown, self: Command) => {
    const terminal = terminalOf(self);
    terminal.tell(await (await connect()).send('DELETE', `/domains/${encodeURIComponent(domain)}`, domainRemovedSchema));
    terminal.say(`${domain} is removed.`);
  });
}

async function login(url: string, token: string, terminal: Terminal): Promise<void> {
  const parsed = credentialsSchema.safeParse({ url: /^https?:/.test(url) ? url : `http://${url}`, token });
  if (!parsed.success) {
    const said = token === '' ? 'the token is missing' : `${JSON.stringify(url)} is no address of a conduit`;
    throw new Failure('command-line', said, { remedy: 'conduit login URL --token TOKEN' });
  }
  const credentials = { ...parsed.data, url: parsed.data.url.replace(/\/+$/, '') };
  const { provider, zoneName } = await openClient(credentials).send('POST', '/login', loginAnswerSchema);
  const path = await writeCredentials(env, credentials);
  terminal.tell({ provider, zoneName, url: credentials.url, path });
  terminal.say(`You are ${terminal.paint('bold', provider)} at ${credentials.url}; apps are named APP.${zoneName}.`);
}

async function showLogs(app: string, options: { follow?: boolean; last: number }, terminal: Terminal): Promise<void> {
  const query = `?follow=${options.follow ? 1 : 0}&last=${options.last}`;
  await forApp(app, async (client, path) => {
    for await (const line of client.lines(`${path}/logs${query}`, logLineSchema)) {
      if (line.type === 'beat') continue;
      if (line.type === 'note') throw new Failure(line.code, line.text);
      terminal.tell(line.log);
      const { log } = line;
      const from = terminal.paint('dim', `${new Date(log.wallMs).toISOString()} ${log.zone}/${log.edgepoint} ${harmless(log.instance)}${isCanary(log) ? ' (canary)' : ''}`);
      for (const text of log.text.replace(/\n$/, '').split('\n')) terminal.say(`${from}  ${harmless(text)}`);
    }
  });
}

/** Asks about one app; when there is none of that name, says which was likely meant. */
async function forApp<T>(app: string, ask: (client: Client, path: string) => Promise<T>): Promise<T> {
  const client = await connect();
  try {
    return await ask(client, `/apps/${encodeURIComponent(app)}`);
  } catch (thrown) {
    if (codeOf(thrown) !== 'app-unknown') throw thrown;
    const { apps } = await client.get('/apps', appsAnswerSchema);
    const likely = nearestWord(app, apps.map((other) => other.app));
    throw new Failure('app-unknown', messageOf(thrown), { remedy: likely ? `Did you mean ${likely}?` : '`conduit list` shows your apps.', cause: thrown });
  }
}

async function confirmDelete(app: string): Promise<void> {
  if (process.stdin.isTTY !== true) {
    throw new Failure('needs-yes', `deleting ${JSON.stringify(app)} cannot be undone, and there is no terminal to ask at`, { remedy: `conduit delete ${app} --yes` });
  }
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await reader.question(`Delete ${app}, with all its releases? Type its name: `);
  reader.close();
  if (answer.trim() !== app) throw new Failure('not-confirmed', 'nothing was deleted');
}

function parseCount(text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && count <= 10_000) return count;
  throw new Failure('command-line', `${JSON.stringify(text)} is no count of entries`, { remedy: 'Give a number from 0 to 10000.' });
}

function parseRelease(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new Failure('command-line', `${JSON.stringify(text)} is no number of a release`, { remedy: '`conduit releases APP` lists them.' });
}

function parsePercent(text: string): number {
  if (/^[1-9]\d?$/.test(text)) return Number(text);
  throw new Failure('command-line', `${JSON.stringify(text)} is no part of the requests`, { remedy: 'Give a whole number of percent, 1 to 99.' });
}

function parseSeconds(text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw new Failure('command-line', `${JSON.stringify(text)} is no time to wait`, { remedy: 'Give whole seconds, 1 to 9999.' });
}

function parseRunSeconds(text: string): number {
  if (/^[1-9]\d{0,4}$/.test(text) && Number(text) <= 86_400) return Number(text);
  throw new Failure('command-line', `${JSON.stringify(text)} is no time for a command`, { remedy: 'Give whole seconds, 1 to 86400.' });
}

function parsePort(text: string): number {
  if (/^[1-9]\d{0,4}$/.test(text) && Number(text) <= 65_535) return Number(text);
  throw new Failure('command-line', `${JSON.stringify(text)} is no port`, { remedy: 'Give a number from 1 to 65535.' });
}

function parseWatch(text: string): number {
  if (/^[1-9]\d?\d?$/.test(text) && Number(text) <= 300) return Number(text);
  throw new Failure('command-line', `${JSON.stringify(text)} is no time to watch for`, { remedy: 'Give a whole number of seconds, 1 to 300.' });
}

function report(thrown: unknown): number {
  if (thrown instanceof CommanderError && thrown.exitCode === 0) return 0;
  const failure = thrown instanceof CommanderError ? commandLineFailure(thrown) : thrown;
  const isKnown = failure instanceof Failure;
  const remedy = isKnown ? failure.remedy : '';
  const message = messageOf(failure);
  if (process.argv.includes('--json')) process.stderr.write(`${JSON.stringify({ code: codeOf(failure), message, remedy })}\n`);
  else process.stderr.write(`conduit: ${harmless(message)}\n${remedy === '' ? '' : `  ${harmless(remedy)}\n`}`);
  return passesExitOn() ? sessionFailedExit : exitCodeOf(codeOf(failure));
}

/** Of these commands the exit code is that of a program; their own failures have one that few programs use. */
const passesExitOn = (): boolean => ['ssh', 'run'].includes(process.argv.slice(2).find((word) => !word.startsWith('-')) ?? '');

function commandLineFailure(thrown: CommanderError): Failure {
  if (thrown.code === 'commander.help') return new Failure('command-line', 'say what to do', { remedy: 'conduit --help' });
  const [said = '', hint = 'conduit --help lists what can be done.'] = thrown.message.replace(/^error: /, '').split('\n');
  return new Failure('command-line', said, { remedy: hint.replace(/^\((.*)\)$/, '$1') });
}

// A reader that stops early (`conduit list | head -1`) is no failure.
process.stdout.on('error', (thrown: NodeJS.ErrnoException) => process.exit(thrown.code === 'EPIPE' ? 0 : 1));
try {
  await describeProgram().parseAsync(process.argv);
} catch (thrown) {
  const code = report(thrown);
  // Somebody still reads stdin there, which would keep the process.
  if (passesExitOn()) process.exit(code);
  process.exitCode = code;
}
