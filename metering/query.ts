import { messageOf } from '../kit/errors.ts';
import { usageQueryMessage, usageReportMessage } from '../kit/wire/usage.ts';
import type { UsageReport } from '../kit/wire/usage.ts';
import { encodeMessage, parseMessage } from '../kit/wire/version.ts';
import type { Charge } from './charges.ts';
import type { Ledger } from './ledger.ts';
import { rate } from './rating.ts';
import type { AppUsage } from './rating.ts';

export interface Question {
  readonly provider: string;
  /** Empty for all apps. */
  readonly app: string;
}

/** The answer to a question, from what the ledger found; pure. `apps` are the provider's apps that ever used something. */
export function report(question: Question, usages: readonly AppUsage[], apps: readonly string[], currency: string, charges: readonly Charge[]): UsageReport {
  const rated = rate({ provider: question.provider, currency, usages }, charges);
  if (usages.length > 0) return { ...rated, code: '', note: '' };
  if (question.app === '' || apps.length === 0) {
    return { ...rated, code: 'nothing-used', note: `The provider ${question.provider} has used nothing yet, and owes nothing.` };
  }
  return {
    ...rated,
    code: 'unknown-app',
    note: `The provider ${question.provider} has used nothing as "${question.app}". It has used: ${apps.join(', ')}.`,
  };
}

export async function ask(ledger: Ledger, question: Question, currency: string, charges: readonly Charge[]): Promise<UsageReport> {
  const usages = await ledger.usage(question.provider, question.app);
  const apps = usages.length > 0 ? [] : await ledger.appsOf(question.provider);
  return report(question, usages, apps, currency, charges);
}

function unanswered(provider: string, currency: string, code: string, note: string): string {
  return encodeMessage(usageReportMessage, { provider, currency, code, note, apps: [], lines: [], totalMicros: 0 });
}

/** Answers `metering.query`; every question gets an answer, one that cannot be understood too. */
export async function answerQuery(text: string, ledger: Ledger, currency: string, charges: readonly Charge[]): Promise<string> {
  const question = parseMessage(usageQueryMessage, text);
  if (!question.ok) return unanswered('', currency, 'bad-query', question.reason);
  if (question.value.provider === '') return unanswered('', currency, 'bad-query', 'The question names no provider.');
  try {
    return encodeMessage(usageReportMessage, await ask(ledger, question.value, currency, charges));
  } catch (failure) {
    return unanswered(question.value.provider, currency, 'ledger-away', `The ledger could not be read: ${messageOf(failure)}`);
  }
}
