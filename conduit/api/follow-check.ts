import type { Bus } from '../../host/bus.ts';
import { ownerKey, siteKey } from '../../kit/ids.ts';
import type { Owner, Site } from '../../kit/ids.ts';
import { eventMessage } from '../../kit/wire/event.ts';
import type { AppEvent } from '../../kit/wire/event.ts';
import { eventSubject, streams } from '../../kit/wire/subjects.ts';
import { parseMessage } from '../../kit/wire/version.ts';
import type { Edgepoints } from '../edgepoints.ts';
import type { CheckAnswer, CheckLine } from './answers.ts';
import { whenGone } from './lines.ts';
import type { LineWriter } from './lines.ts';

export interface FollowedCheck {
  readonly checkId: string;
  readonly owner: Owner;
  readonly site: Site;
  readonly answer: CheckAnswer;
}

interface CheckPorts {
  readonly bus: Bus;
  readonly edgepoints: Edgepoints;
  readonly checkMs: number;
}

type End = Extract<CheckLine, { type: 'end' }>;

/** A head that was killed is back within seconds and begins the check again; an edgepoint that is away for so long has gone. */
const awayMs = 30_000;
const lookMs = 1000;

/** The line that ends a check, if this event of it does. */
export function endOfCheck(event: AppEvent): End | null {
  const site = { zone: event.zone, edgepoint: event.edgepoint };
  if (event.stage === 'report') return { type: 'end', outcome: 'ready', code: '', text: event.text, site, report: event.report };
  if (event.stage === 'failed') return { type: 'end', outcome: 'failed', code: event.code, text: event.text, site, report: null };
  return null;
}

/** Writes what an edgepoint tells of a check until it has ended. */
export async function writeCheck(ports: CheckPorts, check: FollowedCheck, writer: LineWriter): Promise<void> {
  const { site, owner, checkId } = check;
  const send = (line: CheckLine): boolean => writer.send(line);
  const giveUp = (text: string): void => {
    send({ type: 'end', outcome: 'timeout', code: 'check-timeout', text, site, report: null });
    writer.end();
  };
  send({ type: 'check', check: check.answer });
  const consumer = await ports.bus.consume(streams.events, { filter: eventSubject(site, owner), from: 'all' }, async (_subject, text) => {
    const parsed = parseMessage(eventMessage, text);
    if (!parsed.ok || parsed.value.deployId !== checkId || ownerKey(parsed.value) !== ownerKey(owner)) return;
    send({ type: 'event', event: parsed.value });
    const end = endOfCheck(parsed.value);
    if (end === null) return;
    send(end);
    writer.end();
  });
  let reachedMs = performance.now();
  const look = setInterval(() => {
    if (!ports.bus.up || ports.edgepoints.seen().get(siteKey(site))?.reachable === true) reachedMs = performance.now();
    else if (performance.now() - reachedMs > awayMs) giveUp(`the edgepoint ${siteKey(site)} has not been heard of for ${awayMs / 1000} s`);
  }, lookMs);
  const late = setTimeout(() => giveUp('it took too long and was broken off'), ports.checkMs);
  whenGone(writer, () => {
    consumer.stop();
    clearInterval(look);
    clearTimeout(late);
  });
}
