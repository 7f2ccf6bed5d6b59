import type { Command } from 'commander';
import { Failure } from '../../kit/errors.ts';
import { microsPerUnit } from '../../kit/units.ts';
import { capsAnswerSchema, webhookAnswerSchema } from '../api/answers.ts';
import type { CapsAnswer } from '../api/answers.ts';
import type { Client } from './client.ts';
import { jsonUpload } from './client.ts';
import { columns, harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

/** What the program hands in: how commands are made, and where they lead. */
export interface CapCommands {
  command(parent: Command, usage: string, about: string, examples: readonly string[]): Command;
  connect(): Promise<Client>;
  terminalOf(self: Command): Terminal;
}

/** `conduit cap …`. */
export function describeCapCommands(program: Command, { command, connect, terminalOf }: CapCommands): void {
  const cap = command(program, 'cap', 'Shows what this month (UTC) has cost so far, by app, and the spending caps.', ['conduit cap', 'conduit cap --json', 'conduit cap set 25 --app shop']).action(
    async (_options: unknown, self: Command) => tell(await (await connect()).get('/caps', capsAnswerSchema), terminalOf(self)),
  );
  const forWhom = '--app <app>';
  command(cap, 'set <amount>', 'Caps what a month may cost; beyond it the app is not served until the cap is raised or the month is over.', ['conduit cap set 100', 'conduit cap set 2.50 --app shop'])
    .option(forWhom, 'of this app alone (default: all apps together)')
    .action(async (amount: string, { app }: { app?: string }, self: Command) => tell(await (await connect()).send('POST', `/caps?${query({ app: app ?? '', micros: `${readAmount(amount)}` })}`, capsAnswerSchema), terminalOf(self)));
  command(cap, 'remove', 'Takes a cap away; what it stopped is served again.', ['conduit cap remove', 'conduit cap remove --app shop'])
    .option(forWhom, 'that of this app (default: the one for all apps together)')
    .action(async ({ app }: { app?: string }, self: Command) => tell(await (await connect()).send('DELETE', `/caps?${query({ app: app ?? '' })}`, capsAnswerSchema), terminalOf(self)));
  command(cap, 'webhook [url]', 'Has alerts at 50, 80 and 100 % of a cap posted there, signed (standardwebhooks.com); shows the secret once.', ['conduit cap webhook https://hooks.example.com/spending', 'conduit cap webhook --remove'])
    .option('--remove', 'post them nowhere any more')
    .action(async (url: string | undefined, { remove }: { remove?: boolean }, self: Command) => {
      const terminal = terminalOf(self);
      if ((url === undefined) === (remove !== true)) throw new Failure('command-line', 'which webhook?', { remedy: 'conduit cap webhook URL, or conduit cap webhook --remove' });
      const conduit = await connect();
      if (url === undefined) return tell(await conduit.send('DELETE', '/caps/webhook', capsAnswerSchema), terminal);
      const answer = await conduit.send('POST', '/caps/webhook', webhookAnswerSchema, jsonUpload({ url }));
      terminal.tell(answer);
      terminal.say(`Alerts go to ${harmless(answer.url)}. Their signatures are made with this secret, which is shown only now:\n  ${answer.secret}`);
    });
}

const query = (fields: Record<string, string>): string => new URLSearchParams(fields).toString();

/** `2.50` as millionths, without the detour of a double. */
export function readAmount(text: string): number {
  const [, whole = '', part = ''] = /^(\d{1,9})(?:\.(\d{1,6}))?$/.exec(text) ?? [];
  const micros = Number(`${whole}${part.padEnd(6, '0')}`);
  if (whole !== '' && micros > 0) return micros;
  throw new Failure('command-line', `${JSON.stringify(text)} is no amount`, { remedy: 'Give it in the operator’s currency, above 0, with up to six digits behind the point: 2.50' });
}

function tell(answer: CapsAnswer, terminal: Terminal): void {
  terminal.tell(answer);
  const { month, currency, apps, all, webhook, alerts } = answer;
  const money = (micros: number): string => `${(micros / microsPerUnit).toFixed(6)}${currency === '' ? '' : ` ${currency}`}`;
  const row = (name: string, { micros, capMicros }: { micros: number; capMicros: number | null }, stopped: string): string[] => [
    name, money(micros), capMicros === null ? 'none' : money(capMicros), capMicros === null ? '' : `${Math.floor((micros / capMicros) * 100)} %`, stopped === '' ? '' : `NOT SERVED: ${harmless(stopped)}`,
  ];
  const [head = '', ...lines] = columns([[month, 'COST', 'CAP', '', ''], ...apps.map((app) => row(app.app, app, app.stopped)), row('all apps', all, '')]);
  terminal.say(terminal.paint('dim', head.trimEnd()));
  for (const line of lines) terminal.say(line.trimEnd());
  terminal.say(webhook === null ? 'Alerts go nowhere: `conduit cap webhook URL`.' : `Alerts go to ${harmless(webhook)}.`);
  for (const { app, percent, micros, month: of, wallMs, state, attempts, note } of alerts) {
    const how = state === 'waiting' && attempts > 0 ? `tried ${attempts} times: ${harmless(note)}` : state === 'failed' ? `given up after ${attempts} attempts: ${harmless(note)}` : state;
    terminal.say(`  ${new Date(wallMs).toISOString().slice(0, 19)}Z  ${percent} % of ${money(micros)}, ${app === '' ? 'all apps' : app}, ${of}: ${how}`);
  }
}
