import type { Log } from '../../host/log.ts';
import type { Clock } from '../../kit/clock.ts';
import { ownerKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import { eventMessage } from '../../kit/wire/event.ts';
import { eventSubject } from '../../kit/wire/subjects.ts';
import { encodeMessage } from '../../kit/wire/version.ts';
import type { Happening, Tell } from '../model/happening.ts';
import type { MessageOutbox } from './event-outbox.ts';

/** What happens is an event for the provider and a line of the log for the operator. */
export function tellerOf(about: { site: Site; clock: Clock; messages: MessageOutbox; newIdOf: (prefix: string) => string; log: Log }): Tell {
  const { site, clock, messages, newIdOf, log } = about;
  return (happening: Happening) => {
    const { owner, tookMs, figures, stage, code, deployId, report, built, ...rest } = happening;
    const event = {
      ...site,
      ...owner,
      ...rest,
      deployId: deployId ?? '',
      stage: stage ?? '',
      code: code ?? '',
      tookMs: tookMs ?? null,
      figures: { ...figures },
      report: report ?? null,
      built: built ?? null,
      wallMs: clock.wallMs(),
    };
    messages.add({ subject: eventSubject(site, owner), text: encodeMessage(eventMessage, event), id: newIdOf('event') });
    const level = rest.kind === 'fault' || stage === 'failed' ? 'warn' : 'info';
    log[level](rest.text, { app: ownerKey(owner), release: rest.release, kind: rest.kind, stage, code, tookMs });
  };
}
