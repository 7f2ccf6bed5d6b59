import { formatMs } from '../../kit/units.ts';
import type { AccessAnswer, AccessesAnswer } from '../api/answers.ts';
import { columns, harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

export function showAccesses({ app, accesses }: AccessesAnswer, terminal: Terminal): void {
  if (accesses.length === 0) return terminal.say(`Nobody has opened an instance of ${app}.`);
  const rows = accesses.map((one) => [new Date(one.begunWallMs).toISOString(), one.tokenId, one.kind, one.instance || '-', one.edgepoint || '-', one.tookMs === null ? '-' : formatMs(one.tookMs), endOf(one), whatOf(one)]);
  const [head = '', ...lines] = columns([['BEGUN', 'TOKEN', 'KIND', 'INSTANCE', 'AT', 'TOOK', 'END', 'WHAT'], ...rows]);
  terminal.say(terminal.paint('dim', head));
  for (const line of lines) terminal.say(line);
}

function endOf({ code, exitStatus }: AccessAnswer): string {
  if (exitStatus !== null) return `exit ${exitStatus}`;
  return code === null ? 'open' : code === '' ? 'ended' : code;
}

function whatOf({ port, command, terminal }: AccessAnswer): string {
  if (port !== null) return `port ${port}`;
  const words = command.map((word) => (/^[\w./:=@%+,-]+$/.test(word) ? word : JSON.stringify(word)));
  return harmless(`${words.length === 0 ? 'a shell' : words.join(' ')}${terminal ? ' (terminal)' : ''}`);
}
