import { httpChallengePath } from '../../kit/wire/certificates.ts';
import type { HttpsPort } from './exchange-ports.ts';

/**
 * The URL to ask instead of a plain HTTP request, or null when it stays. `target` is in origin-form or `*`; what of it is not printable
 * ASCII is escaped. Authorities ask for challenges over plain HTTP. A client that wants another protocol (a WebSocket) follows no
 * redirect, so it is sent elsewhere only when the app itself says so.
 */
export function httpsUrl(request: { hostName: string; target: string; upgrade: string }, app: { httpsOnly?: boolean }, https: HttpsPort): string | null {
  const { hostName, target, upgrade } = request;
  const wanted = app.httpsOnly ?? (https.always && upgrade === '');
  if (!wanted || !target.startsWith('/') || target.startsWith(httpChallengePath) || !https.has(hostName)) return null;
  const escaped = target.replaceAll(/[^\x21-\x7e]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
  return `https://${hostName}${https.port === 443 ? '' : `:${https.port}`}${escaped}`;
}
