import type { Bus } from '../../host/bus.ts';
import { Failure, codeOf, messageOf } from '../../kit/errors.ts';
import { ownerKey, siteKey } from '../../kit/ids.ts';
import { eventMessage, logMessage } from '../../kit/wire/event.ts';
import type { AppEvent } from '../../kit/wire/event.ts';
import { eventSubject, logSubject, streams } from '../../kit/wire/subjects.ts';
import { parseMessage } from '../../kit/wire/version.ts';
import type { Edgepoints } from '../edgepoints.ts';
import type { BuildLine, CheckAnswer, DeployAnswer } from './answers.ts';
import type { FollowedCheck } from './follow-check.ts';
import { whenGone } from './lines.ts';
import type { LineWriter } from './lines.ts';

type Built = NonNullable<AppEvent['built']>;

/** What becomes of a build. */
export interface BuildWays {
  /** Nobody reads any more. Called once. */
  end(): Promise<void>;
  /** Releases what was built. */
  release?(built: Built): Promise<DeployAnswer>;
  /** Or has it checked, and says when nobody waits for the check any more. */
  check?(built: Built): Promise<{ check: FollowedCheck & { readonly answer: CheckAnswer }; end(): Promise<void> }>;
}

interface BuildPorts {
  readonly bus: Bus;
  readonly edgepoints: Edgepoints;
  writeCheck(check: FollowedCheck, writer: LineWriter): Promise<void>;
}

/** As of checks (follow-check.ts). */
const awayMs = 30_000;
const lookMs = 1000;
/** Two steps of half an hour, waiting for other builds, and packing: an edgepoint says sooner that one took too long. */
const buildMs = 2 * 3600 * 1000;
/** What it wrote last may come behind what is said of it. */
const lastWordsMs = 500;

/** Writes what an edgepoint tells of a build, and what the build writes, until it has ended; then what becomes of it. */
export async function writeBuild(ports: BuildPorts, build: FollowedCheck, ways: BuildWays, writer: LineWriter): Promise<void> {
  const { site, owner, checkId, answer } = build;
  const send = (line: BuildLine): boolean => writer.send(line);
  const fail = (outcome: 'failed' | 'timeout', code: string, text: string): void => {
    send({ type: 'end', outcome, code, text, site, report: null });
    writer.end();
  };
  const become = async (built: Built): Promise<void> => {
    try {
      if (ways.check !== undefined) {
        const { check, end } = await ways.check(built);
        whenGone(writer, () => void end());
        return await ports.writeCheck(check, writer);
      }
      const released = await ways.release?.(built);
      if (released !== undefined) send({ type: 'release', release: released });
      writer.end();
    } catch (thrown) {
      fail('failed', codeOf(thrown), thrown instanceof Failure && thrown.remedy !== '' ? `${messageOf(thrown)}. ${thrown.remedy}` : messageOf(thrown));
    }
  };
  send({ type: 'build', build: answer });
  let over = false;
  const output = await ports.bus.consume(streams.logs, { filter: logSubject(site, owner), from: 'new' }, async (_subject, text) => {
    const parsed = parseMessage(logMessage, text);
    // Instances that are prepared have names that begin so (edgepoint/model/app.ts); those of end users go on writing meanwhile.
    if (parsed.ok && parsed.value.release === answer.release && parsed.value.instance.startsWith('p-')) send({ type: 'output', text: parsed.value.text });
  });
  const events = await ports.bus.consume(streams.events, { filter: eventSubject(site, owner), from: 'all' }, async (_subject, text) => {
    const parsed = parseMessage(eventMessage, text);
    if (over || !parsed.ok || parsed.value.deployId !== checkId || ownerKey(parsed.value) !== ownerKey(owner)) return;
    const event = parsed.value;
    over = event.stage === 'built' || event.stage === 'failed' || event.stage === 'report';
    if (over) await new Promise((resolve) => setTimeout(resolve, lastWordsMs));
    if (!over || event.stage === 'built') send({ type: 'event', event });
    if (!over) return;
    stop();
    if (event.built !== null) await become(event.built);
    // An edgepoint of an earlier version takes the order for a check's.
    else fail('failed', event.code === '' ? 'build-not-here' : event.code, event.stage === 'failed' ? event.text : `the edgepoint ${siteKey(site)} cannot build yet; tell the operator`);
  });
  let reachedMs = performance.now();
  const look = setInterval(() => {
    if (!ports.bus.up || ports.edgepoints.seen().get(siteKey(site))?.reachable === true) reachedMs = performance.now();
    else if (performance.now() - reachedMs > awayMs) fail('timeout', 'edgepoint-away', `the edgepoint ${siteKey(site)} has not been heard of for ${awayMs / 1000} s`);
  }, lookMs);
  const late = setTimeout(() => fail('timeout', 'build-timeout', 'the build took too long and was broken off'), buildMs);
  const stop = (): void => {
    output.stop();
    events.stop();
    clearInterval(look);
    clearTimeout(late);
  };
  whenGone(writer, stop);
}
