import type { Bus } from '../host/bus.ts';
import { ownerKey } from '../kit/ids.ts';
import type { Owner } from '../kit/ids.ts';
import { eventMessage } from '../kit/wire/event.ts';
import type { AppEvent } from '../kit/wire/event.ts';
import { streams } from '../kit/wire/subjects.ts';
import { parseMessage } from '../kit/wire/version.ts';

/** Of one app, for a page that shows it: what the stream still has, and what happens from then on. */
export interface FollowedEvents {
  /** The oldest first. */
  readonly events: readonly AppEvent[];
  /** Resolves when what the stream had is there, or after a moment. */
  readonly ready: Promise<void>;
  stop(): void;
}

const keptMax = 2000;
/** An app to which nothing has happened has no last message to wait for. */
const nothingMs = 300;

export async function followEvents(bus: Bus, owner: Owner, onEvent: () => void): Promise<FollowedEvents> {
  const events: AppEvent[] = [];
  let came: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => (came = resolve));
  const late = setTimeout(came, nothingMs);
  const consumer = await bus.consume(streams.events, { filter: `event.*.*.${ownerKey(owner)}`, from: 'all' }, async (_subject, text, { pending }) => {
    clearTimeout(late);
    const parsed = parseMessage(eventMessage, text);
    if (parsed.ok) events.push(parsed.value);
    if (events.length > keptMax) events.shift();
    if (pending > 0) return;
    came();
    onEvent();
  });
  return {
    events,
    ready,
    stop() {
      clearTimeout(late);
      came();
      consumer.stop();
    },
  };
}
