import { createUser } from '@nats-io/nkeys';
import { siteKey } from '../kit/ids.ts';
import type { Site } from '../kit/ids.ts';
import { accessSubject, artefactBucket, buckets, buildBucket, certificateStream, desiredStream, heartbeatSubject, meteringBeatSubject, meteringQuerySubject, newsSubject, queueStream, snapshotBucket, spendingBeatSubject, stateKey, streams, volumeBucket, volumesSubject } from '../kit/wire/subjects.ts';

/**
 * The one table of who may say what on the bus.
 *
 * The operator's daemons are users of the operator's account, each with allow-lists. An edgepoint runs on a machine that is not
 * the operator's, so it also has an account of its own: the server answers a request on whatever reply subject it carries,
 * unchecked, and in a shared account an edgepoint could have answers (even chosen bytes of its own bucket) delivered on another's
 * subjects. What crosses between the accounts is exactly the edgepoint's rows below; consumers, which deliver anywhere in the
 * account they live in, are not among them.
 */

export type Role = 'conduit' | 'metering' | 'global-dispatcher' | 'certificates' | 'operator' | 'edgepoint';

export interface BusUser {
  readonly role: Role;
  /** Where an edgepoint is; null for every other role. */
  readonly site: Site | null;
  readonly publicKey: string;
  /** Left out of the server's config: its connection is closed when the server next reads it. */
  readonly revoked: boolean;
}

/** A new user and its secret seed, which is nowhere else. */
export function newBusUser(role: Role, site: Site | null): { user: BusUser; seed: string } {
  if ((role === 'edgepoint') !== (site !== null)) throw new Error(`broken invariant: an edgepoint has a site and ${role} has none`);
  const pair = createUser();
  const seed = new TextDecoder().decode(pair.getSeed());
  return { user: { role, site, publicKey: pair.getPublicKey(), revoked: false }, seed };
}

/** Subjects one user may publish (requests among them) and subscribe to; its own inbox comes besides. */
interface Allowed {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
  /** May answer a request it was sent. */
  readonly answers?: boolean;
}

const directGet = (stream: string): string => `$JS.API.DIRECT.GET.${stream}`;
const artefactStream = (site: Site): string => `OBJ_${artefactBucket(site)}`;
const buildStream = (site: Site): string => `OBJ_${buildBucket(site)}`;
const snapshotStream = (site: Site): string => `OBJ_${snapshotBucket(site)}`;
const volumeStream = (site: Site): string => `OBJ_${volumeBucket(site)}`;

/** What crosses from an edgepoint's account to the operator's. Of its buckets of templates and volumes it is the one writer; its zone reads them. */
function edgepointRows(site: Site, sites: readonly Site[]): { readonly speaks: readonly string[]; readonly hears: readonly string[] } {
  const here = siteKey(site);
  return {
    speaks: [
      `$KV.${buckets.state}.${stateKey(site)}`,
      `$KV.${buckets.state}.${stateKey(site)}.>`,
      // What it said last itself, of one of its own keys.
      `${directGet(`KV_${buckets.state}`)}.$KV.${buckets.state}.${stateKey(site)}`,
      `${directGet(`KV_${buckets.state}`)}.$KV.${buckets.state}.${stateKey(site)}.>`,
      heartbeatSubject(site),
      `usage.${here}.>`,
      `event.${here}.>`,
      `log.${here}.>`,
      accessSubject(site, 'from', '*'),
      directGet(desiredStream(site)),
      directGet(certificateStream(site)),
      // Whether a message of its own was taken, and how often it was tried.
      `$KV.${buckets.queues}.${here}.>`,
      directGet(queueStream(site)),
      directGet(`KV_${buckets.challenges}`),
      directGet(artefactStream(site)),
      volumesSubject(site, 'from', '*'),
      `$O.${snapshotBucket(site)}.>`,
      `$O.${volumeBucket(site)}.>`,
      `$O.${buildBucket(site)}.>`,
      directGet(buildStream(site)),
      ...[site, ...sites.filter((other) => other.zone === site.zone && other.edgepoint !== site.edgepoint)].flatMap((other) => [snapshotStream, volumeStream].map((streamOf) => directGet(streamOf(other)))),
    ],
    hears: [newsSubject(buckets.desired, `${here}.>`), newsSubject(buckets.certificates, `${here}.>`), newsSubject(buckets.queues, `${here}.>`), newsSubject(buckets.challenges, 'http.>'), accessSubject(site, 'to', '*'), volumesSubject(site, 'to', '*'), spendingBeatSubject],
  };
}

/** Reading a stream by consumers of one's own. */
function consumes(stream: string): string[] {
  return [
    `$JS.API.STREAM.INFO.${stream}`,
    `$JS.API.CONSUMER.CREATE.${stream}.>`,
    `$JS.API.CONSUMER.DURABLE.CREATE.${stream}.*`,
    `$JS.API.CONSUMER.INFO.${stream}.*`,
    `$JS.API.CONSUMER.DELETE.${stream}.*`,
    `$JS.API.CONSUMER.MSG.NEXT.${stream}.*`,
    `$JS.ACK.${stream}.>`,
  ];
}

export function allowedFor(user: BusUser, sites: readonly Site[]): Allowed {
  const reads = (bucket: string): string => directGet(`KV_${bucket}`);
  const news = (bucket: string): string => newsSubject(bucket, '>');
  switch (user.role) {
    case 'conduit':
      return {
        publish: [
          `$KV.${buckets.desired}.>`,
          `$KV.${buckets.names}.>`,
          `$KV.${buckets.domains}.>`,
          `$KV.${buckets.queues}.>`,
          reads(buckets.names),
          reads(buckets.state),
          reads(buckets.domains),
          reads(buckets.issued),
          reads(buckets.spending),
          spendingBeatSubject,
          ...sites.flatMap((site) => [
            directGet(desiredStream(site)),
            directGet(queueStream(site)),
            `${directGet(queueStream(site))}.$KV.${buckets.queues}.>`,
            directGet(artefactStream(site)),
            directGet(buildStream(site)),
            `$O.${artefactBucket(site)}.>`,
            `$JS.API.STREAM.PURGE.${artefactStream(site)}`,
          ]),
          ...consumes(streams.events),
          ...consumes(streams.logs),
          ...sites.flatMap((site) => [accessSubject(site, 'to', '*'), volumesSubject(site, 'to', '*')]),
          meteringQuerySubject,
        ],
        subscribe: [news(buckets.desired), news(buckets.names), news(buckets.state), news(buckets.domains), news(buckets.issued), news(buckets.queues), news(buckets.spending), meteringBeatSubject, 'heartbeat.>', 'access.*.*.from.*', 'volumes.*.*.from.*'],
      };
    case 'metering':
      return { publish: [...consumes(streams.usage), `$KV.${buckets.spending}.>`, meteringBeatSubject], subscribe: [meteringQuerySubject], answers: true };
    case 'global-dispatcher':
      return {
        publish: [reads(buckets.names), reads(buckets.state), reads(buckets.challenges)],
        subscribe: [news(buckets.names), news(buckets.state), newsSubject(buckets.challenges, 'dns.>'), 'heartbeat.>'],
      };
    case 'certificates':
      // Of edgepoints it hears what they say of themselves (a key of two words), nothing of their apps.
      return {
        publish: [
          `$KV.${buckets.challenges}.>`,
          `$KV.${buckets.certificates}.>`,
          `$KV.${buckets.issued}.>`,
          ...sites.map((site) => directGet(certificateStream(site))),
          ...[buckets.challenges, buckets.issued, buckets.domains, buckets.state].map(reads),
        ],
        subscribe: [news(buckets.domains), newsSubject(buckets.state, '*.*')],
      };
    case 'operator':
      return { publish: ['$JS.API.>'], subscribe: [] };
    case 'edgepoint': {
      const { speaks, hears } = edgepointRows(siteOf(user), sites);
      return { publish: speaks, subscribe: hears };
    }
  }
}

function siteOf(user: BusUser): Site {
  if (user.site === null) throw new Error(`broken invariant: the edgepoint user ${user.publicKey} has no site`);
  return user.site;
}

export interface NatsServerOptions {
  /** Name of the operator's account. */
  readonly operator: string;
  /** `host:port`; port -1 takes a free one. */
  readonly listen: string;
  readonly storeFolder: string;
  readonly users: readonly BusUser[];
  /** Stands in logs and must differ within a cluster. Default: the operator's name. */
  readonly serverName?: string;
  /** Where the server writes its process id, for SIGHUP. */
  readonly pidFile?: string;
  /** A folder where the server writes the ports it has taken. */
  readonly portsFolder?: string;
  /**
   * All streams together. The server makes none whose own limit would not fit, so it is enough for about seven edgepoints by default
   * (72 GiB; streams.ts). A running server does not take another value: it would refuse the whole new config.
   */
  readonly storeBytesMax?: number;
}

/** The text of nats-server.conf. Rewritten and read again by SIGHUP, it admits and revokes users without a restart. */
export function natsServerConfig(options: NatsServerOptions): string {
  const users = options.users.filter((user) => !user.revoked);
  const sites = sitesOf(users);
  const top: Record<string, unknown> = {
    server_name: options.serverName ?? options.operator,
    listen: options.listen,
    ...(options.pidFile === undefined ? {} : { pid_file: options.pidFile }),
    ...(options.portsFolder === undefined ? {} : { ports_file_dir: options.portsFolder }),
    max_payload: 1024 * 1024,
    max_control_line: 4096,
    ping_interval: '10s',
    ping_max: 2,
    write_deadline: '10s',
    jetstream: { store_dir: options.storeFolder, max_memory_store: 64 * 1024 * 1024, max_file_store: options.storeBytesMax ?? 72 * 1024 ** 3 },
    accounts: {
      [options.operator]: {
        jetstream: 'enabled',
        users: users.filter((user) => user.role !== 'edgepoint').map((user) => userEntry(user, sites)),
        exports: [
          ...accountsBy(sites, (site) => edgepointRows(site, sites).speaks).map(([service, accounts]) => ({ service, accounts })),
          ...accountsBy(sites, (site) => edgepointRows(site, sites).hears).map(([stream, accounts]) => ({ stream, accounts })),
        ],
      },
      ...Object.fromEntries(sites.map((site) => [accountOf(site), edgepointAccount(site, options.operator, users, sites)])),
    },
  };
  return `# Written by a program; changes made by hand are lost.\n${JSON.stringify(top, null, 2)}\n`;
}

/** Accounts of edgepoints have a dot in their name; an operator's name is a plain one, so they never meet. */
function accountOf(site: Site): string {
  return `edgepoint.${siteKey(site)}`;
}

/** Each subject once, with the accounts it is exported to: several edgepoints of a zone read one bucket. */
function accountsBy(sites: readonly Site[], subjectsOf: (site: Site) => readonly string[]): [string, string[]][] {
  const accounts = new Map<string, string[]>();
  for (const site of sites) for (const subject of subjectsOf(site)) accounts.set(subject, [...(accounts.get(subject) ?? []), accountOf(site)]);
  return [...accounts];
}

function edgepointAccount(site: Site, operator: string, users: readonly BusUser[], sites: readonly Site[]): unknown {
  const { speaks, hears } = edgepointRows(site, sites);
  return {
    users: users.filter((user) => user.role === 'edgepoint' && siteKey(siteOf(user)) === siteKey(site)).map((user) => userEntry(user, sites)),
    imports: [
      ...speaks.map((subject) => ({ service: { account: operator, subject } })),
      ...hears.map((subject) => ({ stream: { account: operator, subject } })),
    ],
  };
}

function userEntry(user: BusUser, sites: readonly Site[]): unknown {
  const allowed = allowedFor(user, sites);
  return {
    nkey: user.publicKey,
    permissions: {
      publish: { allow: allowed.publish.length === 0 ? ['_NONE'] : allowed.publish },
      // An inbox of its own prefix: no user can listen for another's answers.
      subscribe: { allow: [...allowed.subscribe, `_INBOX.${user.publicKey}.>`] },
      ...(allowed.answers === true ? { allow_responses: { max: 1, expires: '1m' } } : {}),
    },
  };
}

/** The sites of these users, each once, in a steady order. */
function sitesOf(users: readonly BusUser[]): Site[] {
  const bySite = new Map(users.flatMap((user) => (user.site === null ? [] : [[siteKey(user.site), user.site] as const])));
  return [...bySite].toSorted(([one], [other]) => (one < other ? -1 : 1)).map(([, site]) => site);
}
export { prepareStreams } from './streams.ts';
