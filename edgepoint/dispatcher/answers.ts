import type { RouteStop } from '../model/calls.ts';

/** An answer of our own, when no application gives one. */
export interface OwnAnswer {
  readonly status: number;
  readonly reason: string;
  readonly retryAfterSeconds?: number;
  /** Where to ask instead; of printable ASCII. */
  readonly location?: string;
  /** In place of the sentence for people. */
  readonly body?: string;
  /** What a program may go by: never given another meaning. */
  readonly code?: string;
}

const phrases: Readonly<Record<number, string>> = {
  200: 'OK',
  308: 'Permanent Redirect',
  400: 'Bad Request',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  414: 'URI Too Long',
  417: 'Expectation Failed',
  421: 'Misdirected Request',
  431: 'Request Header Fields Too Large',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  505: 'HTTP Version Not Supported',
};

export const unknownHost = (host: string): OwnAnswer => ({ status: 404, reason: `No application here has the name ${host}.` });
export const notInTime = (heldMs: number, why: string): OwnAnswer => ({
  status: 503,
  reason: `The application was not ready within ${Math.round(heldMs / 100) / 10} s: ${why}.`,
  retryAfterSeconds: 2,
});
export const roomFull = (why: string): OwnAnswer => ({ status: 503, reason: `Too many requests are waiting: ${why}.`, retryAfterSeconds: 1 });
export const appFailed = (why: string): OwnAnswer => ({ status: 503, reason: `The application cannot be started: ${why}`, retryAfterSeconds: 10 });

/** Of an app with a spending cap. What the cap is, or costs, is no end user's business. */
export const spendingStopped = ({ code, untilWallMs }: RouteStop, nowWallMs: number): OwnAnswer => ({
  status: 503,
  reason: untilWallMs === null
    ? 'This application is not served just now: its spending is limited, and cannot be judged at the moment.'
    : `This application has reached its spending limit for this month. It is served again when its owner raises the limit, or from ${new Date(untilWallMs).toISOString().slice(0, 10)} on.`,
  retryAfterSeconds: untilWallMs === null ? unknownRetrySeconds : Math.max(1, Math.ceil((untilWallMs - nowWallMs) / 1000)),
  code,
});
const unknownRetrySeconds = 30;

/** The client's certificate said that it talks to somebody else. */
export const misdirected = (host: string): OwnAnswer => ({ status: 421, reason: `This connection was made for another host than ${host}.` });
/** To an authority, and to nobody else of any use. */
export const challengeAnswer = (body: string): OwnAnswer => ({ status: 200, reason: '', body });
export const elsewhere = (location: string): OwnAnswer => ({ status: 308, reason: `It is at ${location}.`, location });

const cleaned = (text: string): string => text.replaceAll(/[^\x20-\x7e]/g, '?');

/** Its body, for people, of printable ASCII alone. */
export const ownBody = (answer: OwnAnswer): string => answer.body ?? `${answer.status} ${phrases[answer.status] ?? 'Error'}\n${cleaned(answer.reason)}\n${answer.code === undefined ? '' : `code: ${answer.code}\n`}`;

/** Its fields, but those of one connection only. */
export function ownFields(answer: OwnAnswer, body: string): readonly (readonly [string, string])[] {
  const fields: [string, string][] = [
    ['Content-Type', 'text/plain; charset=utf-8'],
    ['Content-Length', `${body.length}`],
    ['Cache-Control', 'no-store'],
    ['Edgepoint-Answer', 'dispatcher'],
  ];
  if (answer.code !== undefined) fields.push(['Edgepoint-Error', answer.code]);
  if (answer.status === 405) fields.push(['Allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS']);
  if (answer.location !== undefined) fields.push(['Location', cleaned(answer.location)]);
  if (answer.retryAfterSeconds !== undefined) fields.push(['Retry-After', `${answer.retryAfterSeconds}`]);
  return fields;
}

/** The bytes of an own answer in HTTP/1.1. */
export function writeOwnAnswer(answer: OwnAnswer, way: { keepAlive: boolean; head: boolean; minorVersion: 0 | 1 }): Buffer {
  const body = ownBody(answer);
  const lines = ownFields(answer, body).map(([name, value]) => `${name}: ${value}`);
  if (!way.keepAlive) lines.push('Connection: close');
  else if (way.minorVersion === 0) lines.push('Connection: keep-alive');
  return Buffer.from(`HTTP/1.1 ${answer.status} ${phrases[answer.status] ?? 'Error'}\r\n${lines.join('\r\n')}\r\n\r\n${way.head ? '' : body}`, 'latin1');
}
