import type { Manifest } from '../../kit/wire/manifest.ts';

/** One question to an instance: does it answer HTTP below 500 yet? */
export interface ProbeOrder {
  readonly address: string;
  readonly port: number;
  readonly path: string;
  readonly hostname: string;
  readonly timeoutMs: number;
  /** Unless `none`, the connection begins with a header that says it is the edgepoint's own. */
  readonly proxyProtocol: Manifest['proxyProtocol'];
  /** Aborted when the instance has ended: there is nobody left to ask. */
  readonly gone: AbortSignal;
}

export type ProbeOutcome =
  | { readonly kind: 'answers'; readonly status: number; readonly tookMs: number }
  /** It answered, but until the end with 500 or more. */
  | { readonly kind: 'bad-status'; readonly status: number; readonly tookMs: number }
  /** Nothing took a connection, or what took it never answered. */
  | { readonly kind: 'silent'; readonly tookMs: number; readonly lastError: string }
  | { readonly kind: 'gone'; readonly tookMs: number };

/** Asks again and again, at once after each failure at first and more slowly later, until it answers or the time is over. */
export type Probe = (order: ProbeOrder) => Promise<ProbeOutcome>;
