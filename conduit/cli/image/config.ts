import { z } from 'zod';
import { Failure } from '../../../kit/errors.ts';
import { layerPattern, layersMax } from '../../../kit/image.ts';

/**
 * What an image's JSON documents say (OCI image specification 1.1: image-index.md, manifest.md, config.md; Docker's "Image Manifest Version 2,
 * Schema 2" has the same fields). All decisions about them are here, without a byte read.
 */
export const documentBytesMax = 4 * 1024 * 1024;

const digest = z.string().regex(layerPattern);
const descriptorSchema = z.object({
  mediaType: z.string().max(200).default(''),
  digest,
  size: z.int().min(0),
  platform: z.object({ architecture: z.string(), os: z.string() }).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});
export type Descriptor = z.output<typeof descriptorSchema>;

const indexSchema = z.object({ manifests: z.array(descriptorSchema).min(1).max(1000) });
const manifestSchema = z.object({ config: descriptorSchema, layers: z.array(descriptorSchema).min(1).max(layersMax) });

const listSchema = z.array(z.string()).nullish().transform((list) => list ?? []);
const configSchema = z.object({
  architecture: z.string(),
  os: z.string(),
  config: z
    .object({
      User: z.string().nullish(),
      ExposedPorts: z.record(z.string(), z.unknown()).nullish(),
      Env: listSchema,
      Entrypoint: listSchema,
      Cmd: listSchema,
      WorkingDir: z.string().nullish(),
      Volumes: z.record(z.string(), z.unknown()).nullish(),
    })
    .nullish(),
  rootfs: z.object({ diff_ids: z.array(digest).min(1).max(layersMax) }),
});
export type ImageConfig = z.output<typeof configSchema>;

/** `manifest.json` of what `docker save` and `podman save` write: paths in the archive. */
const savedSchema = z.array(z.object({ Config: z.string(), RepoTags: listSchema, Layers: z.array(z.string()).min(1).max(layersMax) })).min(1);
export type SavedImage = z.output<typeof savedSchema>[number];

export type Document = { readonly kind: 'index'; readonly manifests: readonly Descriptor[] } | { readonly kind: 'image'; readonly config: Descriptor; readonly layers: readonly Descriptor[] };

/** An index or a manifest, whichever it is. */
export function readDocument(text: string): Document {
  const value = parseJson(text);
  const index = indexSchema.safeParse(value);
  if (index.success) return { kind: 'index', ...index.data };
  return { kind: 'image', ...parsed(manifestSchema, value, 'its manifest') };
}

export function readConfig(text: string): ImageConfig {
  return judgePlatform(parsed(configSchema, parseJson(text), 'its config'));
}

/** The one image of a saved archive. */
export function readSaved(text: string): SavedImage {
  const images = parsed(savedSchema, parseJson(text), 'manifest.json');
  const [image] = images;
  if (image !== undefined && images.length === 1) return image;
  throw several(images.map(({ RepoTags }) => RepoTags[0] ?? 'one without a name'));
}

/** Which manifest of an index is for the edgepoints: x86-64, Linux. Entries without a platform may be. */
export function chooseManifest(manifests: readonly Descriptor[]): Descriptor {
  const isFor = ({ platform }: Descriptor): boolean => platform?.architecture === 'amd64' && platform.os === 'linux';
  // Attestations stand beside the image they speak of, as manifests of no platform (buildkit, "attestation storage").
  const images = manifests.filter(({ platform, annotations }) => platform?.architecture !== 'unknown' && annotations?.['vnd.docker.reference.type'] === undefined);
  const fitting = images.filter(isFor);
  const open = fitting.length > 0 ? fitting : images.filter(({ platform }) => platform === undefined);
  const [chosen] = open;
  if (chosen === undefined) throw otherPlatform(images.map(({ platform }) => `${platform?.os}/${platform?.architecture}`).join(', '));
  if (new Set(open.map((one) => one.digest)).size > 1) throw several(open.map((one) => one.annotations?.['org.opencontainers.image.ref.name'] ?? one.digest));
  return chosen;
}

function judgePlatform(config: ImageConfig): ImageConfig {
  if (config.os === 'linux' && config.architecture === 'amd64') return config;
  throw otherPlatform(`${config.os}/${config.architecture}`);
}

/** The layers of an image and the digests of their tars belong together, one by one. */
export function judgeLayers(config: ImageConfig, layers: number): void {
  if (config.rootfs.diff_ids.length === layers) return;
  throw unreadable(`its manifest names ${layers} layers and its config ${config.rootfs.diff_ids.length}`);
}

export const unreadable = (why: string, cause?: unknown): Failure =>
  new Failure('image-unreadable', `this is no image that can be read: ${why}`, { remedy: 'Save it by `docker save`, `podman save` or as an OCI layout.', cause });

export const missingBlob = (what: string): Failure => new Failure('image-layer-missing', `the image is not whole: ${what} is missing`, { remedy: 'Save or push it again.' });

const otherPlatform = (has: string): Failure =>
  new Failure('image-architecture', `the image is for ${has}; edgepoints run linux/amd64`, { remedy: 'Build it with `--platform linux/amd64`.' });

const several = (names: readonly string[]): Failure =>
  new Failure('image-several', `there are several images in it: ${names.slice(0, 10).join(', ')}`, { remedy: 'Save one alone.' });

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (thrown) {
    throw unreadable('a document in it is not JSON', thrown);
  }
}

function parsed<S extends z.ZodType>(schema: S, value: unknown, what: string): z.output<S> {
  const read = schema.safeParse(value);
  if (read.success) return read.data;
  const issue = read.error.issues[0];
  throw unreadable(`${what} does not fit at ${issue?.path.join('.') ?? ''} (${issue?.message ?? ''})`);
}
