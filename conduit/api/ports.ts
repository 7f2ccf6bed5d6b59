import type { Context } from 'hono';
import type { Bus } from '../../host/bus.ts';
import type { Log } from '../../host/log.ts';
import type { RandomBytes } from '../../kit/ids.ts';
import type { UsageReport } from '../../kit/wire/usage.ts';
import type { Checks } from '../checks.ts';
import type { AccessSocketData } from '../access/relay.ts';
import type { Vault } from '../configuration/vault.ts';
import type { Layers } from '../layers.ts';
import type { Deploys } from '../deploy.ts';
import type { Domains } from '../domains/domains.ts';
import type { Queues } from '../queues/queues.ts';
import type { Spending } from '../spending/spending.ts';
import type { Speaker } from '../store/accounts.ts';
import type { AppStore, StoredApp } from '../store/apps.ts';
import type { AuditStore } from '../store/audit.ts';
import type { CapStore } from '../store/caps.ts';
import type { AppAnswer, AppAtSite } from './answers.ts';
import type { Follow } from './follow.ts';
import type { VolumeDesk } from '../volumes/desk.ts';
import type { SignIn } from './sign-in.ts';

export interface CapPorts {
  readonly apps: AppStore;
  readonly caps: CapStore;
  readonly spending: Spending;
  seal(provider: string, secret: string): Promise<string>;
  readonly randomBytes: RandomBytes;
  wallMs(): number;
  /** Webhooks may be anywhere, also where the public internet does not reach. */
  readonly webhooksAnywhere: boolean;
  /** Apps are to be told of, or alerts. */
  onChange(): void;
}

export interface ApiPorts extends CapPorts {
  readonly deploys: Deploys;
  readonly domains: Domains;
  readonly bus: Bus;
  readonly checks: Checks;
  readonly layers: Layers;
  readonly vault: Vault;
  readonly queues: Queues;
  readonly volumes: Pick<VolumeDesk, 'ask'>;
  readonly signIn: SignIn;
  readonly follow: Follow;
  readonly describe: (app: StoredApp) => Promise<AppAnswer>;
  /** An app's edgepoints, when they are `enough`, or when all that live have been heard (`Edgepoints.chooseOnceHeard`). */
  readonly sitesOnce: (app: StoredApp, enough: (sites: readonly AppAtSite[]) => boolean) => Promise<readonly AppAtSite[]>;
  readonly usage: (provider: string, app: string) => Promise<UsageReport>;
  readonly uploadBytesMax: number;
  readonly zoneName: string;
  readonly log: Log;
  readonly audit: AuditStore;
  readonly wallMs: () => number;
}

/** What Bun.serve hands in beside the request. */
export interface Environment {
  Bindings: { readonly address: string; /** False when the request asks for no WebSocket. */ readonly upgrade: (data: AccessSocketData) => boolean };
  Variables: { speaker: Speaker };
}

export type Ask = Context<Environment>;
