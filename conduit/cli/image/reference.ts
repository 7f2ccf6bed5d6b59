import { Failure } from '../../../kit/errors.ts';

/** Where an image is in a registry (OCI distribution specification 1.1, "Pulling manifests"; the defaults are Docker's). */
export interface Reference {
  readonly origin: string;
  /** As the credentials of docker's config file are filed. */
  readonly host: string;
  readonly repository: string;
  /** A tag, or a digest. */
  readonly version: string;
}

const repositoryPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const versionPattern = /^(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|sha256:[0-9a-f]{64})$/;

/** `[HOST[:PORT]/]REPOSITORY[:TAG|@DIGEST]`. Registries of this machine are asked by plain HTTP, as docker does, all others by HTTPS. */
export function parseReference(text: string): Reference {
  const [, before = '', version = 'latest'] = /^(.*?)(?:@(sha256:[^@]*)|:([^:/@]*))?$/.exec(text)?.filter((part, index) => index < 2 || part !== undefined) ?? [];
  const slash = before.indexOf('/');
  const first = slash === -1 ? '' : before.slice(0, slash);
  const hasHost = first.includes('.') || first.includes(':') || first === 'localhost';
  const host = hasHost ? first : 'docker.io';
  const path = hasHost ? before.slice(slash + 1) : before;
  const repository = host === 'docker.io' && !path.includes('/') ? `library/${path}` : path;
  if (!repositoryPattern.test(repository) || repository.length > 255 || !versionPattern.test(version) || !/^[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?$|^\[[0-9a-f:]+\](:\d{1,5})?$/.test(host)) {
    throw new Failure('image-unknown', `${JSON.stringify(text)} is neither a file here nor the name of an image in a registry`, { remedy: 'Name a file that `docker save` wrote, or an image as in registry.example/team/shop:1.2.' });
  }
  const server = host === 'docker.io' ? 'registry-1.docker.io' : host;
  return { origin: `${isOfThisMachine(server) ? 'http' : 'https'}://${server}`, host, repository, version };
}

export const isOfThisMachine = (host: string): boolean => /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/.test(host);

export interface Challenge {
  readonly scheme: 'basic' | 'bearer';
  readonly realm: string;
  readonly service: string;
}

/** What a registry asks for by WWW-Authenticate (RFC 9110, section 11.6.1; distribution's "Token Authentication Specification"); null for what is not known here. */
export function readChallenge(header: string): Challenge | null {
  const scheme = /^(basic|bearer)\b/i.exec(header)?.[1]?.toLowerCase();
  if (scheme !== 'basic' && scheme !== 'bearer') return null;
  const parameters = Object.fromEntries([...header.matchAll(/([a-z]+)="([^"]*)"/gi)].map(([, name = '', value = '']) => [name.toLowerCase(), value]));
  return { scheme, realm: parameters['realm'] ?? '', service: parameters['service'] ?? '' };
}

/** `user:password` for a registry, of the text of docker's config.json; null when it has none. Helpers that keep them elsewhere are not asked. */
export function credentialsIn(text: string, host: string): string | null {
  let auths: Record<string, { auth?: unknown } | undefined>;
  try {
    auths = (JSON.parse(text) as { auths?: typeof auths }).auths ?? {};
  } catch (thrown) {
    throw new Failure('registry-credentials', 'docker’s config.json is not JSON', { cause: thrown });
  }
  const names = host === 'docker.io' ? ['https://index.docker.io/v1/', 'docker.io'] : [host, `https://${host}`, `http://${host}`];
  const auth = names.map((name) => auths[name]?.auth).find((value) => typeof value === 'string' && value !== '');
  return typeof auth === 'string' ? Buffer.from(auth, 'base64').toString('utf8') : null;
}
