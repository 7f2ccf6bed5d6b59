import { z } from 'zod';
import { appStateSchema } from '../../kit/wire/edgepoint-state.ts';
import { eventSchema, logSchema } from '../../kit/wire/event.ts';
import { volumeFactsSchema } from '../../kit/wire/volumes.ts';
import { preparationReportSchema } from '../../kit/wire/report.ts';

/** What the API answers; the CLI parses with the same schemas. A field may be added, never removed, within /v1. */
export const failureAnswerSchema = z.object({ code: z.string(), message: z.string(), remedy: z.string().default('') });
export type FailureAnswer = z.output<typeof failureAnswerSchema>;

export const loginAnswerSchema = z.object({ provider: z.string(), zoneName: z.string(), uploadBytesMax: z.number() });

export const layerAnswerSchema = z.object({ digest: z.string(), bytes: z.number() });

const siteSchema = z.object({ zone: z.string(), edgepoint: z.string() });

export const deployAnswerSchema = z.object({
  app: z.string(),
  release: z.int(),
  deployId: z.string(),
  artefactDigest: z.string(),
  artefactBytes: z.int(),
  hosts: z.array(z.string()),
  url: z.string(),
  sites: z.array(siteSchema),
  placementReason: z.string(),
  /** Of a canary: the part of the app's requests that it gets; null: it is to serve. */
  canaryPercent: z.int().nullable().default(null),
});
export type DeployAnswer = z.output<typeof deployAnswerSchema>;

/** The release that setting variables or secrets has made; `changed` false: there was nothing to change, and it is the one that serves. */
export const configuredAnswerSchema = deployAnswerSchema.extend({ changed: z.boolean(), about: z.string() });
export type ConfiguredAnswer = z.output<typeof configuredAnswerSchema>;

/** Variables of `[env]` and those set over them; `from` says which. */
export const envAnswerSchema = z.object({ app: z.string(), release: z.int(), variables: z.array(z.object({ name: z.string(), value: z.string(), from: z.enum(['manifest', 'set']) })) });
export type EnvAnswer = z.output<typeof envAnswerSchema>;

/** Values are told to nobody. `release`: the one that began with the present value. */
export const secretsAnswerSchema = z.object({ app: z.string(), release: z.int(), secrets: z.array(z.object({ name: z.string(), setWallMs: z.number(), release: z.int() })) });
export type SecretsAnswer = z.output<typeof secretsAnswerSchema>;

export const releasesAnswerSchema = z.object({
  app: z.string(),
  /** The one that serves. */
  current: z.int(),
  /** Newest first; `kept`: it can be gone back to; `canaryPercent`: it is the canary, with this part of the requests. */
  releases: z.array(
    z.object({
      release: z.int(),
      artefactDigest: z.string(),
      artefactBytes: z.int(),
      createdWallMs: z.number(),
      current: z.boolean(),
      kept: z.boolean(),
      canaryPercent: z.int().nullable().default(null),
      /** Which variables were set, when that made it and no upload did. */
      about: z.string().default(''),
    }),
  ),
});
export type ReleasesAnswer = z.output<typeof releasesAnswerSchema>;

/** An app at one edgepoint: `known` is false until that edgepoint has spoken of it. */
export const appAtSiteSchema = siteSchema.extend({ known: z.boolean(), reachable: z.boolean(), state: appStateSchema.nullable() });
export type AppAtSite = z.output<typeof appAtSiteSchema>;

export const appAnswerSchema = z.object({
  provider: z.string(),
  scope: z.string(),
  app: z.string(),
  release: z.int(),
  deployId: z.string(),
  hosts: z.array(z.string()),
  url: z.string(),
  /** How it stands with the certificate of its name; null where no authority is asked. */
  certificate: z.object({ untilWallMs: z.number().nullable(), code: z.string(), text: z.string() }).nullable().default(null),
  /** `template`: every wake begins from the release's template. `keep`: memory and private disk continue. */
  state: z.enum(['template', 'keep']),
  stateMeaning: z.string(),
  offering: z.string(),
  artefactBytes: z.int(),
  /** Names of its volumes. */
  volumes: z.array(z.string()).default([]),
  createdWallMs: z.number(),
  deployedWallMs: z.number(),
  placementReason: z.string(),
  /** False while the message bus has not been told of the last change. */
  published: z.boolean(),
  /** The whole app in a word: `deploying`, `awake`, `asleep`, `failed`, `partly-failed`. */
  condition: z.enum(['deploying', 'awake', 'asleep', 'failed', 'partly-failed']),
  sites: z.array(appAtSiteSchema),
  /** The release that gets a part of the requests beside the one that serves; at a site whose state is `failed` it gets none. */
  canary: z.object({ release: z.int(), percent: z.int(), deployId: z.string(), sites: z.array(appAtSiteSchema) }).nullable().default(null),
});
export type AppAnswer = z.output<typeof appAnswerSchema>;
export const appsAnswerSchema = z.object({ provider: z.string(), apps: z.array(appAnswerSchema) });

export const abortedAnswerSchema = z.object({ app: z.string(), aborted: z.int() });
export const deletedAnswerSchema = z.object({ app: z.string(), deleted: z.literal(true) });

/** `reason`: why an edgepoint has told none. What takes a while is answered by lines (`volumesLineSchema` of kit/wire/volumes.ts). */
export const volumesAnswerSchema = z.object({ app: z.string(), sites: z.array(siteSchema.extend({ volumes: z.array(volumeFactsSchema), reason: z.string() })) });
export type VolumesAnswer = z.output<typeof volumesAnswerSchema>;

/** A line of GET /v1/apps/:app/events. */
export const progressLineSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('event'), event: eventSchema }),
  z.object({ type: z.literal('note'), code: z.string(), text: z.string() }),
  /** Keeps the connection open; means nothing. */
  z.object({ type: z.literal('beat') }),
  z.object({
    type: z.literal('end'),
    outcome: z.enum(['ready', 'partly-ready', 'failed', 'superseded', 'timeout']),
    text: z.string(),
    sites: z.array(
      siteSchema.extend({ outcome: z.enum(['ready', 'failed', 'unknown']), reason: z.string(), coldBootMs: z.number().nullable(), restoreMs: z.number().nullable() }),
    ),
  }),
]);
export type ProgressLine = z.output<typeof progressLineSchema>;

export const checkAnswerSchema = z.object({
  checkId: z.string(),
  app: z.string(),
  /** What a deploy would make of it. */
  release: z.int(),
  site: siteSchema,
  siteReason: z.string(),
  artefactDigest: z.string(),
  artefactBytes: z.int(),
});
export type CheckAnswer = z.output<typeof checkAnswerSchema>;

/** A line of the answer to POST /v1/apps/:app/checks; the check lives as long as somebody reads them. */
export const checkLineSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('check'), check: checkAnswerSchema }),
  z.object({ type: z.literal('event'), event: eventSchema }),
  z.object({ type: z.literal('note'), code: z.string(), text: z.string() }),
  z.object({ type: z.literal('beat') }),
  z.object({
    type: z.literal('end'),
    /** `ready`: it would serve, as the report says. `failed`: it would not. `timeout`: it was not known in time. */
    outcome: z.enum(['ready', 'failed', 'timeout']),
    code: z.string(),
    text: z.string(),
    site: siteSchema,
    report: preparationReportSchema.nullable(),
  }),
]);
export type CheckLine = z.output<typeof checkLineSchema>;

const endOfCheckSchema = checkLineSchema.options[4];

/**
 * A line of the answer to POST /v1/apps/:app/builds; the build lives as long as somebody reads them. What was built is then released
 * (`release`), or checked: then the lines of a check follow.
 */
export const buildLineSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('build'), build: checkAnswerSchema }),
  z.object({ type: z.literal('event'), event: eventSchema }),
  /** What it writes. */
  z.object({ type: z.literal('output'), text: z.string() }),
  z.object({ type: z.literal('note'), code: z.string(), text: z.string() }),
  z.object({ type: z.literal('beat') }),
  z.object({ type: z.literal('release'), release: deployAnswerSchema }),
  z.object({ type: z.literal('check'), check: checkAnswerSchema }),
  endOfCheckSchema,
]);
export type BuildLine = z.output<typeof buildLineSchema>;

/** A line of GET /v1/apps/:app/logs. */
export const logLineSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('log'), log: logSchema.extend({ zone: z.string(), edgepoint: z.string() }) }),
  /** The stream ends after it: a stable code and a sentence. */
  z.object({ type: z.literal('note'), code: z.string(), text: z.string() }),
  z.object({ type: z.literal('beat') }),
]);
export type LogLine = z.output<typeof logLineSchema>;

const recordSchema = z.object({ name: z.string(), type: z.enum(['CNAME', 'A', 'AAAA', 'TXT']), value: z.string() });

export const domainAnswerSchema = z.object({
  domain: z.string(),
  app: z.string(),
  /** `waiting` for its record, `proving` (its record is there, its certificate not yet), `active`. */
  condition: z.enum(['waiting', 'proving', 'active']),
  /** What to set, or, at the apex of a zone, where a CNAME cannot stand, these in its place. */
  records: z.array(recordSchema),
  apexRecords: z.array(recordSchema),
  certificateUntilWallMs: z.number().nullable(),
  /** What went wrong with its certificate, or is about to; empty when all is well. */
  code: z.string(),
  text: z.string(),
});
export type DomainAnswer = z.output<typeof domainAnswerSchema>;
export const domainsAnswerSchema = z.object({ provider: z.string(), domains: z.array(domainAnswerSchema) });
export const domainRemovedSchema = z.object({ domain: z.string(), removed: z.literal(true) });

/** A line of the answer to POST /v1/apps/:app/domains/:domain. */
export const domainLineSchema = z.discriminatedUnion('type', [
  domainAnswerSchema.extend({ type: z.literal('domain') }),
  /** What a look at its records has shown; `code` empty: they are there. */
  z.object({ type: z.literal('look'), code: z.string(), text: z.string() }),
  z.object({ type: z.literal('beat') }),
  z.object({ type: z.literal('end'), outcome: z.enum(['active', 'proved', 'failed', 'timeout']), code: z.string(), text: z.string() }),
]);
export type DomainLine = z.output<typeof domainLineSchema>;

export const messageSentSchema = z.object({ app: z.string(), queue: z.string(), id: z.string(), site: z.string() });
export type MessageSent = z.output<typeof messageSentSchema>;
export const messageDoneSchema = z.object({ id: z.string(), done: z.boolean() });
/** Of each queue the first hundred messages, as they were sent; `site` is `<zone>.<edgepoint>`. */
export const queuesAnswerSchema = z.object({
  app: z.string(),
  queues: z.array(
    z.object({
      name: z.string(),
      waiting: z.int(),
      /** Tried as often as the manifest allows. */
      dead: z.int(),
      messages: z.array(
        z.object({
          id: z.string(),
          site: z.string(),
          sentWallMs: z.number(),
          contentType: z.string(),
          bytes: z.int(),
          attempts: z.int(),
          notBeforeWallMs: z.number(),
          reason: z.string(),
          dead: z.boolean(),
        }),
      ),
    }),
  ),
});
export type QueuesAnswer = z.output<typeof queuesAnswerSchema>;

const costSchema = z.object({ micros: z.number(), capMicros: z.number().nullable() });

/** GET /v1/caps: what the month has cost so far, in millionths of the currency, and the caps. */
export const capsAnswerSchema = z.object({
  provider: z.string(),
  /** In UTC. */
  month: z.string(),
  /** Empty as long as nothing was ever used. */
  currency: z.string(),
  /** `stopped`: why it is not served; empty while it is. */
  apps: z.array(costSchema.extend({ app: z.string(), stopped: z.string() })),
  all: costSchema,
  webhook: z.string().nullable(),
  /** The newest first; `app` empty: of all apps together. */
  alerts: z.array(
    z.object({
      id: z.string(), app: z.string(), month: z.string(), percent: z.number(), micros: z.number(), spentMicros: z.number(), currency: z.string(), wallMs: z.number(),
      state: z.enum(['waiting', 'delivered', 'failed', 'kept']), attempts: z.number(), note: z.string(),
    }),
  ),
});
export type CapsAnswer = z.output<typeof capsAnswerSchema>;
/** The secret is told this once. */
export const webhookAnswerSchema = z.object({ url: z.string(), secret: z.string() });
export type WebhookAnswer = z.output<typeof webhookAnswerSchema>;

/** One access of a provider, as it was written down. */
export const accessAnswerSchema = z.object({
  kind: z.string(),
  tokenId: z.string(),
  /** Of a connect. */
  port: z.number().nullable(),
  /** Of a session; empty: a shell. */
  command: z.array(z.string()),
  terminal: z.boolean(),
  /** `<zone>/<edgepoint>`; empty when there was none it could go to. */
  edgepoint: z.string(),
  instance: z.string(),
  begunWallMs: z.number(),
  /** Null while it is open, and when the conduit was killed meanwhile. */
  tookMs: z.number().nullable(),
  /** Null while it is open; empty when it ended as it should. */
  code: z.string().nullable(),
  /** Of a session whose command has ended. */
  exitStatus: z.number().nullable(),
});
export type AccessAnswer = z.output<typeof accessAnswerSchema>;
/** The newest first. */
export const accessesAnswerSchema = z.object({ app: z.string(), accesses: z.array(accessAnswerSchema) });
export type AccessesAnswer = z.output<typeof accessesAnswerSchema>;
