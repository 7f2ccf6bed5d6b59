import type { Bus } from '../host/bus.ts';
import { Failure, messageOf } from '../kit/errors.ts';
import { meteringQuerySubject } from '../kit/wire/subjects.ts';
import { usageQueryMessage, usageReportMessage } from '../kit/wire/usage.ts';
import type { UsageReport } from '../kit/wire/usage.ts';
import { encodeMessage, parseMessage } from '../kit/wire/version.ts';

/** Asks metering what a provider used and what it costs; Failure `metering-away` when it does not answer. */
export async function askUsage(bus: Bus, provider: string, app: string): Promise<UsageReport> {
  let reply: string;
  try {
    reply = await bus.request(meteringQuerySubject, encodeMessage(usageQueryMessage, { provider, app }), 5000);
  } catch (thrown) {
    throw new Failure('metering-away', `metering does not answer (${messageOf(thrown)})`, { remedy: 'Nothing is lost: try again in a few seconds.', cause: thrown });
  }
  const report = parseMessage(usageReportMessage, reply);
  // A report of another provider would be a leak: never pass it on.
  if (report.ok && report.value.provider === provider) return report.value;
  throw new Failure('metering-answer', `metering answered what is not understood (${report.ok ? 'another provider' : report.reason})`, { remedy: 'Tell the operator.' });
}
