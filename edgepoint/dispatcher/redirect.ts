import type { HttpsPort } from './exchange-ports.ts';

/** Certificates are asked for over plain HTTP (RFC 8555, section 8.3). */
const challengePath = '/.well-known/acme-challenge/';

/**
 * The URL to ask instead of a plain HTTP request, or null when it stays. `target` is in origin-form or `*`; what of it is not printable
 * ASCII is escaped.
 */
export function httpsUrl(request: { hostName: string; target: string }, app: { httpsOnly: boolean }, https: HttpsPort): string | null {
  const { hostName, target } = request;
  if (!(https.always || app.httpsOnly) || !target.startsWith('/') || target.startsWith(challengePath) || !https.has(hostName)) return null;
  const escaped = target.replaceAll(/[^\x21-\x7e]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
  return `https://${hostName}${https.port === 443 ? '' : `:${https.port}`}${escaped}`;
}
