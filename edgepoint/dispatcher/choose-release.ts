/** Whether one request goes to the canary. */
export interface ReleaseInput {
  /** Which part of the requests the canary gets. */
  readonly percent: number;
  /** The canary's route: `away` when it has been removed. */
  readonly canary: 'ready' | 'preparing' | 'failed' | 'away';
  /** Whose instance the client returns to (`scale.sticky`); null: to none. */
  readonly returnsTo: 'canary' | 'serving' | null;
  /** 0 to below 1, another for each request. */
  readonly chance: number;
}

export interface ReleaseChoice {
  readonly canary: boolean;
  /** It would have been the canary's, which cannot take it. */
  readonly missed: boolean;
  readonly reason: string;
}

/** Which of two releases has a request. What the canary cannot take, the one that serves has: a request is never refused for a canary's sake. */
export function chooseRelease({ percent, canary, returnsTo, chance }: ReleaseInput): ReleaseChoice {
  if (returnsTo === 'serving') return { canary: false, missed: false, reason: 'its client returns to the release that serves' };
  if (returnsTo === 'canary' && canary === 'ready') return { canary: true, missed: false, reason: 'its client returns to the canary' };
  if (chance * 100 >= percent) return { canary: false, missed: false, reason: 'drawn for the release that serves' };
  if (canary === 'ready') return { canary: true, missed: false, reason: 'drawn for the canary' };
  return { canary: false, missed: canary === 'failed', reason: `drawn for the canary, which is ${canary}` };
}
