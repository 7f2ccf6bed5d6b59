import type { Bus } from '../host/bus.ts';
import { namePattern } from '../kit/ids.ts';
import type { UsageReport } from '../kit/wire/usage.ts';
import type { AppAnswer, CapsAnswer } from './api/answers.ts';
import { followEvents } from './app-events.ts';
import type { FollowedEvents } from './app-events.ts';
import { awakeCount } from './describe-app.ts';
import type { Speaker } from './store/accounts.ts';
import type { AppStore, StoredApp } from './store/apps.ts';
import type { OpenedApp } from './web/routes.tsx';
import { spanOf, timelineOf } from './web/timeline.ts';

export interface ShownAppPorts {
  readonly bus: Bus;
  readonly apps: AppStore;
  describe(app: StoredApp): Promise<AppAnswer>;
  usage(provider: string, app: string): Promise<UsageReport>;
  caps(provider: string): Promise<CapsAnswer>;
  wallMs(): number;
}

/** What the page of an app shows, from the database, from what its edgepoints say and did, and from the ledger. Null: the speaker has no such app. */
export async function openShown(ports: ShownAppPorts, about: { readonly speaker: Speaker; readonly name: string; readonly onChange: () => void }): Promise<OpenedApp | null> {
  const { speaker, name } = about;
  const mine = async (): Promise<StoredApp | null> => {
    const app = namePattern.test(name) ? await ports.apps.findByName(name) : null;
    return app?.owner.provider === speaker.provider ? app : null;
  };
  const app = await mine();
  if (app === null) return null;
  const followed: FollowedEvents | null = ports.bus.up ? await followEvents(ports.bus, app.owner, about.onChange).catch(() => null) : null;
  return {
    async shown() {
      const now = await mine();
      if (now === null) return null;
      const [described, usage, caps] = await Promise.all([ports.describe(now), ports.usage(speaker.provider, name).catch(() => null), ports.caps(speaker.provider), followed?.ready]);
      const sites = described.sites.map(({ zone, edgepoint, state }) => ({ zone, edgepoint, awake: state === null ? 0 : awakeCount(state.instances) }));
      const nowWallMs = ports.wallMs();
      const timeline = followed === null ? null : timelineOf(followed.events, { nowWallMs, spanMs: spanOf(followed.events, nowWallMs), sites });
      return { app: described, usage, timeline, caps };
    },
    stop: () => followed?.stop(),
  };
}
