import { z } from 'zod';
import { defineMessage } from './version.ts';

/** The ways an instance can be; `edgepoint/model/instance.ts` says which may follow which. */
export const instanceModes = ['cold', 'booting', 'warm', 'frozen', 'asleep', 'restoring', 'draining', 'failed'] as const;

/** What is cut off behind this, so that no entry comes near the most that a message may be. */
export const reasonCharactersMax = 2000;

/** One `cron` of the manifest, as the edgepoint that makes its requests tells it. */
export const cronStateSchema = z.object({
  schedule: z.string(),
  path: z.string(),
  method: z.enum(['POST', 'GET']),
  /** The last time it was due since that edgepoint tells it; null: not yet. */
  last: z.object({ dueWallMs: z.number(), ok: z.boolean(), text: z.string() }).nullable(),
});
export type CronState = z.output<typeof cronStateSchema>;

/**
 * KV bucket `state`, key `<zone>.<edgepoint>.<provider>.<scope>.<app>`: put when something in it changes, deleted with the app.
 * `kit/published-states.ts` puts an edgepoint together again.
 */
export const appStateSchema = z.object({
  provider: z.string(),
  scope: z.string(),
  app: z.string(),
  release: z.int(),
  /** `preparing` until the release can serve, `ready` after, `failed` when it cannot. */
  status: z.enum(['preparing', 'ready', 'failed']),
  /** How a sleeping app is woken: from its template, from its own last snapshot, or by a cold boot (then `wakeReason` says why). */
  wakeBy: z.enum(['template', 'keep', 'cold']),
  wakeReason: z.string().default(''),
  /** Why it does not sleep, or why it failed; empty otherwise. */
  reason: z.string().default(''),
  state: z.enum(['template', 'keep']),
  /** Instances by mode. */
  instances: z.record(z.string(), z.int()),
  templateBytes: z.int().default(0),
  /** Where the template lies: on the edgepoint's disk, in the object store, in both; empty when there is none, or nobody says. */
  templateAt: z.enum(['', 'disk', 'store', 'both']).default(''),
  /** Its own address there, and the ports of it; missing when it has none. */
  own: z
    .object({
      /** Empty when it has none of that family. */
      ipv4: z.string(),
      ipv6: z.string(),
      /** `ipv4Port`: where there is no IPv4 address, the port of the edgepoint's own one in its place. */
      ports: z.array(z.object({ protocol: z.enum(['tcp', 'udp']), port: z.int(), ipv4Port: z.int().optional() })).max(8),
    })
    .optional(),
  /** Missing when this edgepoint makes none of its requests. */
  cron: z.array(cronStateSchema).max(8).optional(),
  coldBootMs: z.number().nullable().default(null),
  restoreMs: z.number().nullable().default(null),
});
export type AppState = z.output<typeof appStateSchema>;
/** `epoch` is that of the edgepoint's entry when this one was put. */
export const appStateEntrySchema = appStateSchema.extend({ epoch: z.string() });
export type AppStateEntry = z.output<typeof appStateEntrySchema>;
export const appStateMessage = defineMessage('app-state', { major: 1, minor: 3 }, appStateEntrySchema);

/** KV bucket `state`, key `<zone>.<edgepoint>`: what an edgepoint says of itself; put only when something in it changes. */
export const edgepointStateSchema = z.object({
  zone: z.string(),
  edgepoint: z.string(),
  bootId: z.string(),
  /** Where end users reach the local dispatcher's shared address. */
  ipv4: z.string(),
  ipv6: z.string(),
  latitude: z.number(),
  longitude: z.number(),
  /** 0 to 1: the part of the edgepoint's memory that running instances hold. */
  load: z.number(),
  capacityBytes: z.int(),
  /** Public key (X25519, base64 of its SubjectPublicKeyInfo) that certificates for its dispatcher are sealed with; empty while it has said none. */
  sealTo: z.string().max(128).default(''),
  /** False while the operator drains it. */
  accepting: z.boolean(),
  /** Another each time the edgepoint says anew all it has: when it begins, and when the bus has lost what was said. */
  epoch: z.string(),
  /** All apps were put in this epoch: an entry of another epoch is of an app that is gone. */
  complete: z.boolean(),
  /** Its X25519 public key (SubjectPublicKeyInfo, base64), for which secrets are wrapped; empty while it has not told. */
  opens: z.string().max(200).default(''),
});
export type EdgepointState = z.output<typeof edgepointStateSchema>;
export const edgepointStateMessage = defineMessage('edgepoint-state', { major: 2, minor: 1 }, edgepointStateSchema);

/** Core NATS subject `heartbeat.<zone>.<edgepoint>`, every 2 s; three missed and the global dispatcher answers without it. */
export const heartbeatSchema = z.object({ zone: z.string(), edgepoint: z.string(), bootId: z.string(), bootNs: z.number() });
export type Heartbeat = z.output<typeof heartbeatSchema>;
export const heartbeatMessage = defineMessage('heartbeat', { major: 1, minor: 0 }, heartbeatSchema);
