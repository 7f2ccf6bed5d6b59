import { Failure } from '../../kit/errors.ts';
import type { FailureAnswer } from './answers.ts';

type Status = 400 | 401 | 404 | 409 | 411 | 413 | 415 | 422 | 429 | 500 | 502 | 503 | 507;

/** The HTTP status of each stable code; what is not listed is 422 (what was sent is at fault). */
const statuses: Readonly<Record<string, Status>> = {
  'token-missing': 401,
  'token-wrong': 401,
  'too-many-attempts': 429,
  'app-unknown': 404,
  'deploy-unknown': 404,
  'domain-unknown': 404,
  'cap-unknown': 404,
  'too-many-domains': 409,
  'volume-unknown': 404,
  'snapshot-unknown': 404,
  'edgepoint-unknown': 404,
  'edgepoint-away': 503,
  'layer-unknown': 404,
  'layer-missing': 409,
  'layers-full': 507,
  'release-unknown': 404,
  'release-serves': 409,
  'canary-unknown': 404,
  'canary-alone': 409,
  'no-such-way': 404,
  'upgrade-missing': 400,
  'queue-unknown': 404,
  'queue-full': 429,
  'message-unknown': 404,
  'message-waits': 409,
  'message-too-big': 413,
  'name-taken': 409,
  'variable-unknown': 404,
  'variable-is-secret': 409,
  'variable-is-plain': 409,
  'value-too-big': 413,
  'configuration-too-big': 413,
  'body-too-big': 413,
  'body-invalid': 400,
  'edgepoint-key-unknown': 503,
  'secrets-spoilt': 500,
  'key-differs': 500,
  'body-missing': 400,
  'query-invalid': 400,
  'upload-cut': 400,
  'upload-damaged': 400,
  'upload-too-big': 413,
  'not-an-archive': 415,
  'busy': 503,
  'bus-away': 503,
  'metering-away': 503,
  'no-edgepoint': 503,
  'too-many-apps': 503,
  'disk-full': 507,
  'metering-answer': 502,
  unexpected: 500,
};

/** What is answered for a Failure; anything else is our fault, and its text stays in the log. */
export function answerFailure(thrown: unknown): { status: Status; answer: FailureAnswer } {
  if (!(thrown instanceof Failure)) {
    return { status: 500, answer: { code: 'unexpected', message: 'the conduit failed; the operator’s log tells why', remedy: 'Try again; if it stays, tell the operator.' } };
  }
  return { status: statuses[thrown.code] ?? 422, answer: { code: thrown.code, message: thrown.message, remedy: thrown.remedy } };
}
