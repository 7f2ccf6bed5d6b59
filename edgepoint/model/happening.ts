import type { Owner } from '../../kit/ids.ts';
import type { AppEvent } from '../../kit/wire/event.ts';
import type { PreparationReport } from '../../kit/wire/report.ts';

/** Something that happened to an app, for people; the head adds site and wall time and appends it to EVENTS. */
export interface Happening {
  readonly owner: Owner;
  readonly release: number;
  readonly deployId?: string;
  readonly kind: 'deploy' | 'wake' | 'sleep' | 'scale' | 'fault' | 'check';
  readonly stage?: string;
  readonly text: string;
  readonly code?: string;
  readonly tookMs?: number;
  readonly figures?: Readonly<Record<string, number>>;
  readonly report?: PreparationReport;
  /** Of a build: the artefact that came of it, in this edgepoint's bucket of builds. */
  readonly built?: NonNullable<AppEvent['built']>;
}

export type Tell = (happening: Happening) => void;
