import { Failure } from '../../kit/errors.ts';
import { domainLineSchema } from '../api/answers.ts';
import type { DomainAnswer, DomainLine } from '../api/answers.ts';
import type { Client } from './client.ts';
import { columns, harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

type End = Extract<DomainLine, { type: 'end' }>;

/** Adds a domain, says which record to set, and watches until it is there and has its certificate. `watch` false: says it and ends. */
export async function addDomain(domain: string, options: { app: string; watch: boolean }, conduit: Client, terminal: Terminal): Promise<void> {
  let shown = false;
  let told = '';
  for await (const line of conduit.lines(`/apps/${encodeURIComponent(options.app)}/domains/${encodeURIComponent(domain)}`, domainLineSchema, { stream: nothing(), headers: {} })) {
    if (line.type === 'beat') continue;
    terminal.tell(line);
    if (line.type === 'end') return finish(line, terminal);
    if (line.type === 'domain') {
      if (!shown) showRecords(line, terminal);
      shown = true;
      if (!options.watch) return;
      terminal.progress(line.condition === 'waiting' ? 'waiting for the record …' : 'waiting for the certificate …');
      tell(line.code === '' ? '' : `no certificate yet (${line.code}): ${line.text}`);
    } else tell(line.text, line.code === '');
  }
  throw new Failure('progress-cut', 'the conduit ended before the domain was ready', { remedy: 'The same command goes on.' });

  function tell(text: string, good = false): void {
    if (text === '' || text === told) return;
    told = text;
    terminal.say(`  ${terminal.paint(good ? 'green' : 'yellow', harmless(text))}`);
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

function showRecords({ domain, condition, records, apexRecords }: DomainAnswer, terminal: Terminal): void {
  if (condition !== 'waiting') return;
  terminal.say(`Set this record where ${terminal.paint('bold', domain)} is kept:`);
  for (const line of recordLines(records)) terminal.say(`    ${line}`);
  terminal.say('  or, at the apex of a zone, where a CNAME cannot stand, these:');
  for (const line of recordLines(apexRecords)) terminal.say(`    ${line}`);
}

const recordLines = (records: DomainAnswer['records']): string[] => columns(records.map(({ name, type, value }) => [`${name}.`, type, type === 'CNAME' ? `${value}.` : type === 'TXT' ? JSON.stringify(value) : value]));

function finish(end: End, terminal: Terminal): void {
  if (end.outcome === 'active') return terminal.say(terminal.paint('green', end.text));
  if (end.outcome === 'proved') return terminal.say(terminal.paint('yellow', end.text));
  throw new Failure(end.code, harmless(end.text));
}

export function showDomains(domains: readonly DomainAnswer[], terminal: Terminal): void {
  if (domains.length === 0) return terminal.say('No domain yet: `conduit domains add shop.example.com --app shop`.');
  const rows = domains.map(({ domain, app, condition, certificateUntilWallMs, records, code, text }) => {
    const [record] = records;
    const waits = record === undefined ? '' : `${record.name} ${record.type} ${record.value}`;
    const until = certificateUntilWallMs === null ? '' : `until ${new Date(certificateUntilWallMs).toISOString().slice(0, 10)}`;
    return [domain, app, condition, until, condition === 'waiting' ? waits : code === '' ? '' : `${code}: ${harmless(text)}`];
  });
  const [head = '', ...lines] = columns([['DOMAIN', 'APP', 'IS', 'CERTIFICATE', ''], ...rows]);
  terminal.say(terminal.paint('dim', head));
  for (const line of lines) terminal.say(line.trimEnd());
}
