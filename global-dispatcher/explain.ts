import { Failure } from '../kit/errors.ts';
import { decideSettings } from '../host/config.ts';
import { readFile } from 'node:fs/promises';
import { parseAddress, familyOf } from './address.ts';
import { readDump } from './cache.ts';
import { openLocationFile } from './geo.ts';
import { identityOf, userLocationsOf } from './knowledge.ts';
import { chooseFor } from './respond.ts';
import type { ChosenFor, Knowledge } from './respond.ts';
import { settings } from './settings.ts';
import { DispatcherState } from './state.ts';
import { hostKey } from './wire/name.ts';
import { NameTable } from './zone.ts';

const usage = 'Usage: global-dispatcher/main.ts explain NAME --from ADDRESS --state FILE [--config FILE] [--json]\n'
  + 'Replays, from a dumped state (the cacheFile of a dispatcher), which edgepoint a user at ADDRESS is sent to, and why.\n';

/** The text of the command; Failure when it cannot be made out. */
export async function explainCommand(argv: readonly string[], env: Record<string, string | undefined>): Promise<string> {
  const options = new Map<string, string>();
  const plain: string[] = [];
  const json = argv.includes('--json');
  const words = argv.filter((word) => word !== '--json');
  if (words.includes('--help') || words.length === 0) return usage;
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at] ?? '';
    if (word.startsWith('--')) options.set(word.slice(2), words[(at += 1)] ?? '');
    else plain.push(word);
  }
  const user = parseAddress(options.get('from') ?? '');
  const name = hostKey(plain[0] ?? '');
  const stateFile = options.get('state') ?? '';
  if (name === null || plain.length !== 1) throw new Failure('bad-usage', 'explain needs one name', { remedy: usage });
  if (user === null) throw new Failure('bad-usage', `--from "${options.get('from') ?? ''}" is no address`, { remedy: usage });
  if (stateFile === '') throw new Failure('bad-usage', 'explain needs --state FILE', { remedy: usage });
  const read = readDump(stateFile);
  if (!('dump' in read)) throw new Failure('bad-state', `${stateFile} is no dumped state: ${read.reason}`, { remedy: 'Name the cacheFile of a dispatcher.' });

  const config = options.get('config');
  const settled = config === undefined ? null : await decideSettings(settings, ['--config', config], env, (path) => readFile(path, 'utf8'));
  const apex = read.dump.zoneName;
  const identity = identityOf({ ...(settled ?? settings.schema.parse({ zoneName: apex, nameserverName: `ns.${apex}`, natsSeedFile: '-' })), zoneName: apex }, []);
  const state = new DispatcherState(new NameTable(identity), 0);
  state.load(read.dump, 0, true);
  const found = state.names.lookUp(name);
  if (found.kind !== 'app') {
    return json ? `${JSON.stringify({ name, kind: found.kind })}\n` : `${name}: ${found.kind === 'outside' ? 'outside the zone' : found.kind === 'absent' ? 'no app has this name' : `no app, but the zone's ${found.kind}`}\n`;
  }
  const knowledge: Knowledge = {
    identity,
    names: state.names,
    challenges: { lookUp: () => [] },
    serial: state.serial,
    complete: true,
    hostingOf: (entry) => state.hostingOf(entry),
    rows: userLocationsOf(settled?.userLocations ?? {}),
    file: openLocationFile(settled?.locationFile ?? ''),
    answersMax: settled?.answersMax ?? 1,
  };
  const family = familyOf(user);
  // As an end user at that address whose resolver sends its whole network (RFC 7871).
  const chosen = chooseFor(found.entry, family, user, { family: family === 4 ? 1 : 2, sourcePrefixBits: user.length * 8, address: user }, knowledge);
  return json ? `${JSON.stringify({ name, kind: 'app', ...chosen })}\n` : describe(name, options.get('from') ?? '', family, chosen);
}

function describe(name: string, from: string, family: 4 | 6, chosen: ChosenFor): string {
  const { located, choice } = chosen;
  const place = located.location === null ? 'at a place nobody knows' : `at ${located.location.latitude}, ${located.location.longitude} (known for its /${located.prefixBits})`;
  const lines = [`${name} for ${from}, ${place}:`];
  choice.ordered.forEach((candidate, at) => lines.push(`  ${at + 1}. ${candidate.site} ${candidate.address} [${candidate.fitness}]: ${candidate.reason}`));
  if (choice.ordered.length === 0) lines.push(`  nobody: no edgepoint that hosts it has an IPv${family} address`);
  for (const passed of choice.passedOver) lines.push(`  -  ${passed.site}: ${passed.reason}`);
  lines.push(`  the answer holds for ${chosen.scopePrefixBits === 0 ? 'everybody' : `the user's /${chosen.scopePrefixBits}`} (ECS scope ${chosen.scopePrefixBits})`);
  return `${lines.join('\n')}\n`;
}
