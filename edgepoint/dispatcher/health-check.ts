import type { OwnAnswer } from './answers.ts';
import type { RequestHead } from './request-head.ts';

/** A monitor's question whether the app is well: GET or HEAD of the path that its manifest names, whatever the query. */
export function isHealthCheck({ method, target }: Pick<RequestHead, 'method' | 'target'>, healthPath: string): boolean {
  if (method !== 'GET' && method !== 'HEAD') return false;
  return target === healthPath || target.startsWith(`${healthPath}?`);
}

/** For an app that sleeps: its release can serve, and the next end user wakes it. */
export const wellAsleep: OwnAnswer = { status: 200, reason: '', body: 'asleep\n' };
