import { z } from 'zod';
import { defineMessage } from './version.ts';

/** The ways an instance can be; `edgepoint/model/instance.ts` says which may follow which. */
export const instanceModes = ['cold', 'booting', 'warm', 'frozen', 'asleep', 'restoring', 'draining', 'failed'] as const;

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
  coldBootMs: z.number().nullable().default(null),
  restoreMs: z.number().nullable().default(null),
});

/** KV bucket `state`, key `<zone>.<edgepoint>`; rewritten only when something in it changes. */
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
  /** False while the operator drains it. */
  accepting: z.boolean(),
  apps: z.array(appStateSchema),
});
export type EdgepointState = z.output<typeof edgepointStateSchema>;
export type AppState = z.output<typeof appStateSchema>;
export const edgepointStateMessage = defineMessage('edgepoint-state', { major: 1, minor: 0 }, edgepointStateSchema);

/** Core NATS subject `heartbeat.<zone>.<edgepoint>`, every 2 s; three missed and the global dispatcher answers without it. */
export const heartbeatSchema = z.object({ zone: z.string(), edgepoint: z.string(), bootId: z.string(), bootNs: z.number() });
export type Heartbeat = z.output<typeof heartbeatSchema>;
export const heartbeatMessage = defineMessage('heartbeat', { major: 1, minor: 0 }, heartbeatSchema);
