/** An answer of our own, when no application gives one. */
export interface OwnAnswer {
  readonly status: number;
  readonly reason: string;
  readonly retryAfterSeconds?: number;
}

const phrases: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  414: 'URI Too Long',
  417: 'Expectation Failed',
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

/** The bytes of an own answer. The reason is a sentence for people; only printable ASCII of it is sent. */
export function writeOwnAnswer(answer: OwnAnswer, way: { keepAlive: boolean; head: boolean; minorVersion: 0 | 1 }): Buffer {
  const body = `${answer.status} ${phrases[answer.status] ?? 'Error'}\n${answer.reason.replaceAll(/[^\x20-\x7e]/g, '?')}\n`;
  const lines = [
    `HTTP/1.1 ${answer.status} ${phrases[answer.status] ?? 'Error'}`,
    'Content-Type: text/plain; charset=utf-8',
    `Content-Length: ${body.length}`,
    'Cache-Control: no-store',
    'Edgepoint-Answer: dispatcher',
    ...(answer.status === 405 ? ['Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'] : []),
    ...(answer.retryAfterSeconds === undefined ? [] : [`Retry-After: ${answer.retryAfterSeconds}`]),
    ...(way.keepAlive ? (way.minorVersion === 0 ? ['Connection: keep-alive'] : []) : ['Connection: close']),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${way.head ? '' : body}`, 'latin1');
}
