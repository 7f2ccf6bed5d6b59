import type { ChallengeOrder } from '../model/certificates.ts';
import { httpChallengePath } from '../../kit/wire/certificates.ts';

/** So few are under way at once; more would be somebody's mistake. */
const challengesMax = 64;

/** What to answer an authority that looks whether a host leads here (RFC 8555, section 8.3). No app is asked, or woken, for it. */
export class Challenges {
  private readonly byKey = new Map<string, NonNullable<ChallengeOrder['challenge']>>();

  take({ key, challenge }: ChallengeOrder): void {
    this.byKey.delete(key);
    if (challenge !== null && this.byKey.size < challengesMax) this.byKey.set(key, challenge);
  }

  /** Null: it is a request like any other. `hostName` in lower case. */
  answerTo(hostName: string, target: string): string | null {
    if (this.byKey.size === 0 || !target.startsWith(httpChallengePath)) return null;
    const token = target.slice(httpChallengePath.length);
    for (const each of this.byKey.values()) if (each.token === token && each.host === hostName) return each.answer;
    return null;
  }
}
