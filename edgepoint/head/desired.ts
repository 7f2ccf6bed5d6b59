import type { Bus } from '../../host/bus.ts';
import { messageOf } from '../../kit/errors.ts';
import { fingerprint } from '../../kit/fingerprint.ts';
import { ownerKey, siteKey } from '../../kit/ids.ts';
import type { Owner, Site } from '../../kit/ids.ts';
import { checkOrderMessage } from '../../kit/wire/check.ts';
import type { CheckOrder } from '../../kit/wire/check.ts';
import { desiredAppMessage } from '../../kit/wire/desired.ts';
import type { DesiredApp } from '../../kit/wire/desired.ts';
import { buckets, isCheckTail } from '../../kit/wire/subjects.ts';
import { parseMessage } from '../../kit/wire/version.ts';
import type { CheckWish } from '../deploy/check.ts';
import type { ReleaseOrder } from '../model/app.ts';

export function orderOf(desired: DesiredApp): ReleaseOrder {
  const { provider, scope, app, release, artefactDigest, manifest, hosts, uidSlot, deployId, sites, cronSite, secrets, canaryPercent, capped } = desired;
  const order = { owner: { provider, scope, app }, release, artefactDigest, manifest, hosts, uidSlot, deployId, sites, cronSite };
  return { ...order, ...(secrets === undefined ? {} : { secrets }), ...(canaryPercent === undefined ? {} : { canaryPercent }), ...(capped === undefined ? {} : { capped }) };
}

export function checkOf(order: CheckOrder): CheckWish {
  const { provider, scope, app, release, artefactDigest, manifest, hosts, uidSlot, checkId, artefactBytes, object, secrets, build } = order;
  const wished: ReleaseOrder = { owner: { provider, scope, app }, release, artefactDigest, manifest, hosts, uidSlot, deployId: checkId, ...(secrets === undefined ? {} : { secrets }) };
  return { checkId, artefactBytes, object, order: wished, ...(build === undefined ? {} : { build }) };
}

/** Null when the key is not one of an app: whoever writes keys is not always right. */
export function readOwner(key: string): Owner | null {
  const [provider, scope, app, more] = key.split('.');
  return provider === undefined || scope === undefined || app === undefined || more !== undefined ? null : { provider, scope, app };
}

export interface DesiredPorts {
  /** Durable when it returns. */
  save(app: string, message: string): Promise<void>;
  forget(app: string): Promise<void>;
  wish(order: ReleaseOrder, artefactBytes: number): void;
  wishGone(owner: Owner): void;
  /** A check wished under that key, or (null) no longer. */
  check(place: string, wish: CheckWish | null): void;
  warn(text: string, fields: Record<string, unknown>): void;
}

/**
 * Follows what the conduit wants of this edgepoint. `known` is what the database remembered: wishes of it that are not in the
 * bucket any more were taken back while we were away.
 */
export async function followDesired(bus: Bus, site: Site, known: ReadonlyMap<string, string>, ports: DesiredPorts): Promise<{ stop(): void; readonly ready: Promise<void> }> {
  const prefix = `${siteKey(site)}.`;
  /** Fingerprints of the wishes as they came last. */
  const taken = new Map([...known].map(([app, text]) => [app, fingerprint(text)]));
  /** Those that the bucket has not shown yet. */
  const unseen = new Set(known.keys());
  const watch = await bus.watchKv(buckets.desired, `${prefix}>`, async (key, text) => {
    const app = key.slice(prefix.length);
    if (isCheckTail(app)) return followCheck(app, text, ports);
    const owner = readOwner(app);
    if (owner === null) return ports.warn('a wish under a strange key is ignored', { key });
    unseen.delete(app);
    if (text === null) return takeBack(app, owner);
    const print = fingerprint(text);
    if (taken.get(app) === print) return;
    const parsed = parseMessage(desiredAppMessage, text);
    if (!parsed.ok) return ports.warn('a wish cannot be understood', { key, reason: parsed.reason });
    if (ownerKey(parsed.value) !== app) return ports.warn('a wish stands under the key of another app', { key });
    taken.set(app, print);
    try {
      await ports.save(app, text);
    } catch (failure) {
      ports.warn('a wish could not be saved; it is fulfilled, and read again after a restart', { key, reason: messageOf(failure) });
    }
    ports.wish(orderOf(parsed.value), parsed.value.artefactBytes);
  });
  const takeBack = async (app: string, owner: Owner): Promise<void> => {
    taken.delete(app);
    ports.wishGone(owner);
    await ports.forget(app);
  };
  const ready = watch.ready.then(async () => {
    for (const app of unseen) {
      const owner = readOwner(app);
      if (owner !== null && unseen.delete(app)) await takeBack(app, owner);
    }
  });
  return { ready, stop: () => watch.stop() };
}

/** A check is not remembered: whoever restarts the head begins it again, as long as somebody waits for it. */
function followCheck(place: string, text: string | null, ports: DesiredPorts): void {
  if (text === null) return ports.check(place, null);
  const parsed = parseMessage(checkOrderMessage, text);
  if (!parsed.ok) return ports.warn('a check cannot be understood', { place, reason: parsed.reason });
  if (!place.startsWith(`${parsed.value.provider}.`)) return ports.warn('a check stands under the key of another provider', { place });
  ports.check(place, checkOf(parsed.value));
}
