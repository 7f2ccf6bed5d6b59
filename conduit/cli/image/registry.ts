import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fetch } from 'undici';
import type { Response } from 'undici';
import { Failure, codeOf, messageOf } from '../../../kit/errors.ts';
import { damaged } from './archive.ts';
import type { ImageSource, SourceLayer } from './archive.ts';
import { chooseManifest, documentBytesMax, judgeLayers, missingBlob, readConfig, readDocument, unreadable } from './config.ts';
import type { Descriptor, Document } from './config.ts';
import { credentialsIn, isOfThisMachine, parseReference, readChallenge } from './reference.ts';
import type { Reference } from './reference.ts';

const redirectsMax = 5;
const accepted = ['application/vnd.oci.image.index.v1+json', 'application/vnd.oci.image.manifest.v1+json', 'application/vnd.docker.distribution.manifest.list.v2+json', 'application/vnd.docker.distribution.manifest.v2+json'].join(', ');

interface Registry {
  readonly reference: Reference;
  /** An answer with status 200; Failures `image-unknown` (404), `registry-refused`, `registry-unreachable`, `registry-stalls`. */
  ask(path: string): Promise<Body>;
}

interface Body {
  readonly pieces: AsyncIterable<Uint8Array>;
}

/** An image in a registry: its documents are read and verified now, its layers when they are opened. `stallMs`: how long it may say nothing. */
export async function openRegistryImage(name: string, options: { readonly stallMs: number; readonly env: NodeJS.ProcessEnv }): Promise<ImageSource> {
  const reference = parseReference(name);
  const registry = await openRegistry(reference, options);
  const image = await findManifest(registry);
  const config = readConfig(await verified(registry, `blobs/${image.config.digest}`, image.config.digest));
  judgeLayers(config, image.layers.length);
  const layers = image.layers.map((descriptor, index): SourceLayer => ({ digest: config.rootfs.diff_ids[index] as string, bytes: descriptor.size, open: () => openBlob(registry, descriptor) }));
  return { name: reference.repository, config, layers, close: () => Promise.resolve() };
}

async function findManifest(registry: Registry): Promise<Document & { kind: 'image' }> {
  const { version } = registry.reference;
  let document = readDocument(version.startsWith('sha256:') ? await verified(registry, `manifests/${version}`, version) : await textOf(registry, `manifests/${version}`));
  for (let depth = 0; document.kind === 'index'; depth += 1) {
    if (depth > 3) throw unreadable('its indexes are nested too deeply');
    const { digest } = chooseManifest(document.manifests);
    document = readDocument(await verified(registry, `manifests/${digest}`, digest));
  }
  return document;
}

async function textOf(registry: Registry, path: string): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of (await registry.ask(path)).pieces) {
    bytes += part.length;
    if (bytes > documentBytesMax) throw unreadable(`${path} is longer than ${documentBytesMax} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

async function verified(registry: Registry, path: string, digest: string): Promise<string> {
  const text = await textOf(registry, path);
  if (`sha256:${createHash('sha256').update(text).digest('hex')}` !== digest) throw damaged(path);
  return text;
}

async function* openBlob(registry: Registry, { digest, size }: Descriptor): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const part of (await registry.ask(`blobs/${digest}`)).pieces) {
    bytes += part.length;
    if (bytes > size) throw damaged(`the layer ${digest}`);
    hash.update(part);
    yield part;
  }
  if (`sha256:${hash.digest('hex')}` !== digest) throw damaged(`the layer ${digest}`);
}

async function openRegistry(reference: Reference, { stallMs, env }: { stallMs: number; env: NodeJS.ProcessEnv }): Promise<Registry> {
  const { origin, host, repository } = reference;
  const credentials = credentialsIn(await dockerConfig(env), host);
  const basic = credentials === null ? '' : `Basic ${Buffer.from(credentials).toString('base64')}`;
  let authorization = '';

  const authorize = async (header: string): Promise<void> => {
    const challenge = readChallenge(header);
    if (challenge?.scheme === 'basic' && basic !== '') authorization = basic;
    else if (challenge?.scheme === 'bearer') {
      const realm = safeUrl(challenge.realm, 'the place where it gives tokens');
      realm.searchParams.set('service', challenge.service);
      realm.searchParams.set('scope', `repository:${repository}:pull`);
      const { response, stop } = await get(realm, basic, stallMs);
      if (response.status !== 200) throw refused(host, response.status, credentials !== null);
      const text = await gather(piecesOf(response, stop, stallMs, host));
      const { token, access_token: other } = asToken(text);
      authorization = `Bearer ${token ?? other ?? ''}`;
    } else throw refused(host, 401, credentials !== null);
  };
  return {
    reference,
    async ask(path) {
      let url = safeUrl(`${origin}/v2/${repository}/${path}`, 'the registry');
      for (let tries = 0, redirects = 0; ; ) {
        // Credentials are for the registry alone, not for where it sends us.
        const { response, stop } = await get(url, url.origin === new URL(origin).origin ? authorization : '', stallMs);
        if (response.status === 200) return { pieces: piecesOf(response, stop, stallMs, host) };
        stop();
        const location = response.headers.get('location');
        if (response.status === 401 && tries === 0) {
          tries += 1;
          await authorize(response.headers.get('www-authenticate') ?? '');
        } else if (response.status >= 300 && response.status < 400 && location !== null && redirects < redirectsMax) {
          redirects += 1;
          url = safeUrl(new URL(location, url).href, 'where the registry sends us');
        } else throw failureOf(response.status, { host, repository, path, hasCredentials: credentials !== null });
      }
    },
  };
}

function asToken(text: string): { token?: string; access_token?: string } {
  try {
    return JSON.parse(text) as { token?: string; access_token?: string };
  } catch (thrown) {
    throw new Failure('registry-refused', 'what gives tokens for the registry answered no JSON', { cause: thrown });
  }
}

async function gather(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of pieces) {
    bytes += part.length;
    if (bytes > documentBytesMax) throw unreadable('a token is too long');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

/** Secrets and images go by HTTPS, but for registries of this machine. */
function safeUrl(text: string, what: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url !== null && (url.protocol === 'https:' || (url.protocol === 'http:' && isOfThisMachine(url.host)))) return url;
  throw new Failure('registry-unsafe', `${what} (${JSON.stringify(text.slice(0, 200))}) is not reached by HTTPS`, { remedy: 'Save the image to a file and deploy that.' });
}

/** An answer's head; `stop` breaks it off. */
async function get(url: URL, authorization: string, stallMs: number): Promise<{ response: Response; stop: () => void }> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(stalled(url.host, stallMs)), stallMs);
  try {
    const headers = { accept: accepted, 'user-agent': 'conduit-cli', ...(authorization === '' ? {} : { authorization }) };
    return { response: await fetch(url, { headers, redirect: 'manual', signal: abort.signal }), stop: () => abort.abort() };
  } catch (thrown) {
    if (abort.signal.aborted) throw stalled(url.host, stallMs);
    throw new Failure('registry-unreachable', `the registry at ${url.host} cannot be reached (${messageOf(thrown instanceof Error && thrown.cause !== undefined ? thrown.cause : thrown)})`, { remedy: 'Is its name right, and does it run?', cause: thrown });
  } finally {
    clearTimeout(timer);
  }
}

async function* piecesOf(response: Response, stop: () => void, stallMs: number, host: string): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      let timer: NodeJS.Timeout | undefined;
      const stall = new Promise<never>((_resolve, reject) => (timer = setTimeout(() => reject(stalled(host, stallMs)), stallMs)));
      const piece = await Promise.race([reader.read(), stall]).finally(() => clearTimeout(timer));
      if (piece.done) return;
      yield piece.value as Uint8Array;
    }
  } catch (thrown) {
    if (thrown instanceof Failure) throw thrown;
    throw new Failure('registry-unreachable', `the connection to the registry at ${host} was lost (${messageOf(thrown)})`, { remedy: 'Deploy again: what was sent is not sent again.', cause: thrown });
  } finally {
    stop();
  }
}

const stalled = (host: string, stallMs: number): Failure =>
  new Failure('registry-stalls', `the registry at ${host} says nothing for ${stallMs / 1000} s`, { remedy: 'Deploy again: what was sent is not sent again.' });

const refused = (host: string, status: number, hasCredentials: boolean): Failure =>
  new Failure('registry-refused', `the registry at ${host} refuses ${hasCredentials ? 'the credentials of docker’s config.json' : 'whoever gives no credentials'} (${status})`, { remedy: `\`docker login ${host}\`, or \`podman login --authfile ~/.docker/config.json ${host}\`.` });

function failureOf(status: number, about: { host: string; repository: string; path: string; hasCredentials: boolean }): Failure {
  const { host, repository, path, hasCredentials } = about;
  if (status === 401 || status === 403) return refused(host, status, hasCredentials);
  if (status === 404 && path.startsWith('blobs/')) return missingBlob(path.replace('blobs/', 'blob '));
  if (status === 404) return new Failure('image-unknown', `the registry at ${host} has no ${repository} ${path.replace('manifests/', '')}`, { remedy: 'Look at the name and the tag.' });
  return new Failure('registry-unreachable', `the registry at ${host} answers ${status}`, { remedy: 'Try again later.' });
}

async function dockerConfig(env: NodeJS.ProcessEnv): Promise<string> {
  try {
    return await readFile(join(env['DOCKER_CONFIG'] ?? join(env['HOME'] ?? homedir(), '.docker'), 'config.json'), 'utf8');
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') return '{}';
    throw new Failure('registry-credentials', `docker’s config.json cannot be read (${messageOf(thrown)})`, { cause: thrown });
  }
}
