import { Failure } from '../../kit/errors.ts';
import { openAttempts } from '../attempts.ts';
import type { AccountStore, Speaker } from '../store/accounts.ts';
import { splitToken } from '../token.ts';

/** Finds who speaks by a token, and slows those who guess. */
export interface SignIn {
  /** `address` is where the request came from. */
  byToken(tokenText: string, address: string): Promise<Speaker>;
}

const windowMs = 60_000;

export function openSignIn(accounts: AccountStore, nowMs: () => number): SignIn {
  const byAddress = openAttempts({ failuresMax: 100, windowMs, keysMax: 10_000 });
  const byToken = openAttempts({ failuresMax: 10, windowMs, keysMax: 10_000 });
  return {
    async byToken(tokenText, address) {
      const now = nowMs();
      const tokenKey = `${address} ${splitToken(tokenText)?.id ?? ''}`;
      const waitMs = Math.max(byAddress.waitMs(address, now), byToken.waitMs(tokenKey, now));
      if (waitMs > 0) {
        throw new Failure('too-many-attempts', 'too many wrong tokens came from your address', { remedy: `Try again in ${Math.ceil(waitMs / 1000)} s.` });
      }
      const speaker = await accounts.findSpeaker(tokenText);
      if (speaker) return speaker;
      byAddress.failed(address, now);
      byToken.failed(tokenKey, now);
      throw new Failure('token-wrong', 'this token is not known here, or it has been revoked', {
        remedy: 'Log in with `conduit login URL --token TOKEN`; the operator makes tokens.',
      });
    },
  };
}
