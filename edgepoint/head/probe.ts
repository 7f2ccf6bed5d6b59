import { request } from 'node:http';
import { connect } from 'node:net';
import type { Clock } from '../../kit/clock.ts';
import { codeOf } from '../../kit/errors.ts';
import { nsPerMs } from '../../kit/units.ts';
import { proxyHeader } from '../model/proxy-protocol.ts';
import type { Probe, ProbeOrder, ProbeOutcome } from '../model/probe.ts';

/** Between two questions: at once at first, so that a fast boot is seen in time, then slower. */
const pauseMsMin = 2;
const pauseMsMax = 100;
/** An answer may take this long, or what is left of the whole time when that is less. */
const answerMsMax = 10_000;

/** Asks by HTTP on a connection of its own each time, so that none is open when the instance is snapshotted. */
export function openProbe(clock: Clock): Probe {
  return async (order) => {
    const fromBootNs = clock.bootNs();
    const sinceMs = (): number => (clock.bootNs() - fromBootNs) / nsPerMs;
    let pauseMs = pauseMsMin;
    let last: ProbeOutcome = { kind: 'silent', tookMs: 0, lastError: 'it was not asked' };
    for (;;) {
      if (order.gone.aborted) return { kind: 'gone', tookMs: sinceMs() };
      const leftMs = order.timeoutMs - sinceMs();
      if (leftMs <= 0) return last;
      const answer = await (order.proxyProtocol === 'none' ? ask : askBehindHeader)(order, Math.min(answerMsMax, leftMs));
      const tookMs = sinceMs();
      if (typeof answer === 'number' && answer < 500) return { kind: 'answers', status: answer, tookMs };
      if (typeof answer === 'number') last = { kind: 'bad-status', status: answer, tookMs };
      // Once it has answered, a connection refused in between says less than that answer did.
      else if (last.kind !== 'bad-status') last = { kind: 'silent', tookMs, lastError: answer };
      await pause(Math.min(pauseMs, Math.max(0, order.timeoutMs - tookMs)), order.gone);
      pauseMs = Math.min(pauseMsMax, pauseMs * 1.3);
    }
  };
}

/** The status, or why there is none. */
function ask(order: ProbeOrder, timeoutMs: number): Promise<number | string> {
  return new Promise((resolve) => {
    const question = request({
      host: order.address,
      port: order.port,
      path: order.path,
      method: 'GET',
      agent: false,
      headers: { host: order.hostname, connection: 'close', 'user-agent': 'edgepoint-probe' },
    });
    const timer = setTimeout(() => question.destroy(new Error(`no answer within ${Math.round(timeoutMs)} ms`)), timeoutMs);
    const stop = (): void => void question.destroy(new Error('it ended'));
    order.gone.addEventListener('abort', stop, { once: true });
    const finish = (answer: number | string): void => {
      clearTimeout(timer);
      order.gone.removeEventListener('abort', stop);
      resolve(answer);
    };
    question.once('response', (response) => {
      response.on('error', () => finish(response.statusCode ?? 0));
      response.once('close', () => finish(response.statusCode ?? 0));
      response.resume();
    });
    question.on('error', (error) => finish(codeOf(error) === 'unexpected' ? error.message : codeOf(error)));
    question.end();
  });
}

/** The most of an answer that is read for its status. */
const answerBytesMax = 64 * 1024;

/** As `ask`, for a program that wants a PROXY header first, which an HTTP client cannot be told to send. */
function askBehindHeader(order: ProbeOrder, timeoutMs: number): Promise<number | string> {
  return new Promise((resolve) => {
    const version = order.proxyProtocol === 'v1' ? 'v1' : 'v2';
    const question = connect({ host: order.address, port: order.port });
    let text = '';
    const finish = (answer: number | string): void => {
      clearTimeout(timer);
      order.gone.removeEventListener('abort', stop);
      question.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => finish(`no answer within ${Math.round(timeoutMs)} ms`), timeoutMs);
    const stop = (): void => finish('it ended');
    order.gone.addEventListener('abort', stop, { once: true });
    question.once('connect', () => {
      question.write(proxyHeader(version, null));
      question.write(`GET ${order.path} HTTP/1.1\r\nHost: ${order.hostname}\r\nConnection: close\r\nUser-Agent: edgepoint-probe\r\n\r\n`, 'latin1');
    });
    question.on('data', (bytes: Buffer) => {
      if (text.length < answerBytesMax) text += bytes.toString('latin1');
    });
    // An answer counts when it is whole, so that nothing is under way when the instance is snapshotted.
    question.once('close', () => finish(statusOf(text)));
    question.on('error', (error) => finish(statusOf(text) === noStatus ? codeOf(error) : statusOf(text)));
  });
}

const noStatus = 'what answered is not HTTP';

/** Of the first answer that is not an interim one. */
function statusOf(text: string): number | string {
  const line = /(?:^|\r\n\r\n)HTTP\/1\.[01] ([2-9]\d\d)(?: |\r\n)/.exec(text);
  return line?.[1] === undefined ? noStatus : Number(line[1]);
}

function pause(ms: number, gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(finish, ms);
    function finish(): void {
      clearTimeout(timer);
      gone.removeEventListener('abort', finish);
      resolve();
    }
    gone.addEventListener('abort', finish, { once: true });
  });
}
