/** Names that stand in subjects, paths and DNS labels: lower case, digits and inner hyphens (RFC 1035 label without its length of 63). */
export const namePattern = /^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$/;

/** Whose a thing is: stands in every subject, row and path. `scope` divides a provider's applications (default `main`). */
export interface Owner {
  readonly provider: string;
  readonly scope: string;
  readonly app: string;
}

/** Where a thing is: a zone is a group of edgepoints isolated from other zones. */
export interface Site {
  readonly zone: string;
  readonly edgepoint: string;
}

export const defaultScope = 'main';

/** The scope of an app's canary: a release that gets a part of the app's requests. The app itself is of the default scope. */
export const canaryScope = 'canary';

export function isCanary(owner: Pick<Owner, 'scope'>): boolean {
  return owner.scope === canaryScope;
}

/** Under which owner an app's canary stands. */
export function canaryOf(owner: Owner): Owner {
  return { ...owner, scope: canaryScope };
}

/** The app whose canary it is. */
export function servedBy(canary: Owner): Owner {
  return { ...canary, scope: defaultScope };
}

/** `provider.scope.app`: the tail of every subject and key that speaks of one application. */
export function ownerKey(owner: Owner): string {
  return `${owner.provider}.${owner.scope}.${owner.app}`;
}

/** The owner in an `ownerKey`, or in what begins with one. */
export function ownerOfKey(key: string): Owner {
  const [provider, scope, app] = key.split('.');
  if (provider === undefined || scope === undefined || app === undefined) throw new Error(`broken invariant: ${key} is the key of an app`);
  return { provider, scope, app };
}

/** `zone.edgepoint`: the middle of every subject and key that speaks of one edgepoint. */
export function siteKey(site: Site): string {
  return `${site.zone}.${site.edgepoint}`;
}

/** Random bits come from the caller, so that tests and replays choose them. */
export type RandomBytes = (count: number) => Uint8Array;

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';

/** A new id: `prefix-` and 16 characters of Crockford base 32 (80 bits). */
export function newId(prefix: string, randomBytes: RandomBytes): string {
  const bytes = randomBytes(16);
  let text = '';
  for (const byte of bytes) text += alphabet[byte & 31];
  return `${prefix}-${text}`;
}
