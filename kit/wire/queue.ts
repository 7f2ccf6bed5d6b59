import { z } from 'zod';
import { defineMessage } from './version.ts';

/** Of a body; in the bus it takes a third more. */
export const queueBodyBytesMax = 128 * 1024;
/** Messages of one app that wait, in all its queues, and their bodies together. */
export const queueMessagesMax = 1000;
export const queueBytesMax = 8 * 1024 * 1024;
/** Printable ASCII: it becomes a field of a request. */
export const contentTypePattern = /^[\x20-\x7e]{1,200}$/;

/**
 * KV bucket `queues`, key `<zone>.<edgepoint>.<provider>.<scope>.<app>.<queue>.<place>`: a message that waits to be taken by the app. The conduit
 * puts it, the edgepoint writes it anew after each attempt that failed and deletes it when the app has taken it. Each writes only over what
 * it has seen last.
 */
export const queueMessageSchema = z.object({
  id: z.string().regex(/^[a-z0-9-]{1,64}$/),
  sentWallMs: z.number(),
  contentType: z.string().regex(contentTypePattern),
  bodyBase64: z.base64().max(Math.ceil(queueBodyBytesMax / 3) * 4),
  /** How often it was tried. */
  attempts: z.int().min(0).default(0),
  /** Not again before then. */
  notBeforeWallMs: z.number().default(0),
  /** Why the last attempt failed; empty before. */
  reason: z.string().max(500).default(''),
  /** It was tried as often as its queue allows: it stays until its provider has it tried again or deletes it. */
  dead: z.boolean().default(false),
});
export type QueueMessage = z.output<typeof queueMessageSchema>;
export const queueMessageMessage = defineMessage('queue-message', { major: 1, minor: 0 }, queueMessageSchema);
