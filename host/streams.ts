import { Failure } from '../kit/errors.ts';
import { siteKey } from '../kit/ids.ts';
import type { Site } from '../kit/ids.ts';
import { bytesPerGibibyte, bytesPerMebibyte, nsPerSecond } from '../kit/units.ts';
import { artefactBucket, buckets, buildBucket, certificateStream, desiredStream, newsSubject, queueStream, snapshotBucket, streams, volumeBucket } from '../kit/wire/subjects.ts';
import type { Bus } from './bus.ts';

/** A stream's settings by the server's own names (JetStream API of nats-server 2.10). */
interface StreamRow {
  readonly name: string;
  readonly subjects: readonly string[];
  readonly [setting: string]: unknown;
}

const daySeconds = 86_400;

/** Every stream there shall be: what is kept, how much of it and for how long. */
export function streamTable(sites: readonly Site[]): StreamRow[] {
  const kept = { retention: 'limits', storage: 'file', num_replicas: 1, discard: 'old' };
  return [
    { ...kept, name: streams.usage, subjects: ['usage.>'], max_age: 90 * daySeconds * nsPerSecond, max_bytes: bytesPerGibibyte, duplicate_window: 120 * nsPerSecond },
    { ...kept, name: streams.events, subjects: ['event.>'], max_age: 7 * daySeconds * nsPerSecond, max_msgs_per_subject: 200, max_bytes: 256 * bytesPerMebibyte, duplicate_window: 120 * nsPerSecond },
    { ...kept, name: streams.logs, subjects: ['log.>'], max_msgs_per_subject: 1000, max_bytes: 512 * bytesPerMebibyte, duplicate_window: 120 * nsPerSecond },
    bucketRow(`KV_${buckets.names}`, buckets.names, '>'),
    ...[buckets.state, buckets.challenges, buckets.issued, buckets.domains, buckets.spending].map((bucket) => bucketRow(`KV_${bucket}`, bucket, '>')),
    ...sites.flatMap((site) => [
      bucketRow(desiredStream(site), buckets.desired, `${siteKey(site)}.>`),
      bucketRow(certificateStream(site), buckets.certificates, `${siteKey(site)}.>`),
      { ...bucketRow(queueStream(site), buckets.queues, `${siteKey(site)}.>`), max_bytes: queueBytesMax },
      objectRow(artefactBucket(site), 4 * bytesPerGibibyte),
      objectRow(snapshotBucket(site), snapshotBytesMax),
      objectRow(volumeBucket(site), volumeBytesMax),
      objectRow(buildBucket(site), buildBytesMax),
    ]),
  ];
}

/** The newest message of each key, told again as news for the watches. */
function bucketRow(name: string, bucket: string, filter: string): StreamRow {
  const subject = `$KV.${bucket}.${filter}`;
  return {
    name,
    subjects: [subject],
    retention: 'limits',
    storage: 'file',
    num_replicas: 1,
    discard: 'new',
    max_msgs_per_subject: 1,
    max_bytes: 256 * bytesPerMebibyte,
    max_msg_size: bytesPerMebibyte,
    allow_rollup_hdrs: true,
    deny_delete: true,
    allow_direct: true,
    republish: { src: subject, dest: newsSubject(bucket, filter) },
  };
}

/** What may wait for all apps of one edgepoint. */
const queueBytesMax = 64 * bytesPerMebibyte;

/** What one edgepoint may keep in its bucket of templates; it keeps below this by itself (`storeBytes` of its head). */
const snapshotBytesMax = 2 * bytesPerGibibyte;

/** The same of snapshots of volumes (`volumeStoreBytes`). */
const volumeBytesMax = 2 * bytesPerGibibyte;
/** What an edgepoint has built and the conduit has not fetched yet: one artefact at a time. */
const buildBytesMax = 640 * bytesPerMebibyte;

function objectRow(bucket: string, bytesMax: number): StreamRow {
  return {
    name: `OBJ_${bucket}`,
    subjects: [`$O.${bucket}.C.>`, `$O.${bucket}.M.>`],
    retention: 'limits',
    storage: 'file',
    num_replicas: 1,
    discard: 'new',
    max_bytes: bytesMax,
    allow_rollup_hdrs: true,
    allow_direct: true,
  };
}

/** Makes what is missing of the table and changes what differs; may be repeated. Needs the role `operator`. */
export async function prepareStreams(bus: Bus, sites: readonly Site[]): Promise<void> {
  for (const row of streamTable(sites)) {
    const existing = await ask(bus, `STREAM.INFO.${row.name}`, {});
    const streamNotFound = 10059;
    if (existing.error?.err_code === streamNotFound) await must(bus, `STREAM.CREATE.${row.name}`, row);
    else if (existing.error !== undefined) throw refused(row.name, existing.error);
    else if (differs(row, existing.config ?? {})) await must(bus, `STREAM.UPDATE.${row.name}`, { ...existing.config, ...row });
  }
}

interface ApiAnswer {
  readonly error?: { readonly err_code?: number; readonly description?: string };
  readonly config?: Readonly<Record<string, unknown>>;
}

async function ask(bus: Bus, call: string, body: unknown): Promise<ApiAnswer> {
  return JSON.parse(await bus.request(`$JS.API.${call}`, JSON.stringify(body), 10_000)) as ApiAnswer;
}

async function must(bus: Bus, call: string, body: StreamRow): Promise<void> {
  const { error } = await ask(bus, call, body);
  if (error !== undefined) throw refused(body.name, error);
}

function refused(stream: string, error: NonNullable<ApiAnswer['error']>): Failure {
  return new Failure('stream-refused', `the message server does not make the stream ${stream}: ${error.description ?? 'no reason given'}`);
}

function differs(row: StreamRow, config: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(row).some(([setting, value]) => JSON.stringify(config[setting] ?? null) !== JSON.stringify(value));
}
