import { createHash } from 'node:crypto';
import { fieldValue } from './head-lines.ts';
import type { RequestSection } from './request-head.ts';

/** The cookie of apps whose clients return to the instance that answered them before (`scale.sticky`). */
export const affinityCookie = 'edgepoint-affinity';
const tokenPattern = /^[0-9a-f]{32}$/;

/** What the cookie says of an instance: nothing that leads to it, the same in every dispatcher that knows it. */
export const affinityOf = (instance: string): string => createHash('sha256').update(`affinity ${instance}`).digest('hex').slice(0, 32);

/** What a client brings (RFC 6265, section 4.2); the first that could be one of ours, '' when there is none. */
export function affinityIn({ text, fields }: Pick<RequestSection, 'text' | 'fields'>): string {
  for (const field of fields) {
    if (field.key !== 'cookie') continue;
    for (const pair of fieldValue(text, field).split(';')) {
      const at = pair.indexOf('=');
      if (at < 0 || pair.slice(0, at).trim() !== affinityCookie) continue;
      const token = pair.slice(at + 1).trim();
      if (tokenPattern.test(token)) return token;
    }
  }
  return '';
}

/** The value of Set-Cookie; the cookie ends with the browser's session, as the instance's memory does with its sleep. */
export const setAffinity = (token: string, scheme: 'http' | 'https'): string => `${affinityCookie}=${token}; Path=/; HttpOnly; SameSite=Lax${scheme === 'https' ? '; Secure' : ''}`;

/** A client that came from no instance that is still there is told by a cookie which one it has now. */
export function newAffinity(
  { app, instance }: { readonly app: { readonly terms: { readonly sticky?: true } | null; hasAffinity(affinity: string): boolean }; readonly instance: { readonly affinity: string } },
  brought: string,
  scheme: 'http' | 'https',
): { readonly cookie: string } | undefined {
  if (app.terms?.sticky !== true) return undefined;
  const known = brought !== '' && app.hasAffinity(brought);
  return known ? undefined : { cookie: setAffinity(instance.affinity, scheme) };
}
