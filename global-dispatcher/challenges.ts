import { dnsChallengeLabel, dnsChallengeMessage } from '../kit/wire/certificates.ts';
import { parseMessage } from '../kit/wire/version.ts';

/** More at once would be somebody's mistake. */
const recordsMax = 16;
/** A resolver that keeps an old answer keeps the authority from seeing the new one. */
export const challengeTtlSeconds = 1;

/**
 * The TXT records by which whoever orders certificates proves that the zone is the operator's (RFC 8555, section 8.4). Of all names in
 * the zone it can set this one: `_acme-challenge.<apex>`.
 */
export class Challenges {
  readonly name: string;
  readonly #values = new Map<string, string>();

  constructor(apex: string) {
    this.name = `${dnsChallengeLabel}.${apex}`;
  }

  /** Takes an entry of the bucket `challenges` (null: gone); the reason when it cannot be used, else empty. */
  apply(key: string, text: string | null): string {
    this.#values.delete(key);
    if (text === null) return '';
    const parsed = parseMessage(dnsChallengeMessage, text);
    if (!parsed.ok) return parsed.reason;
    if (parsed.value.name !== this.name) return `a challenge for ${parsed.value.name} is no business of this zone`;
    if (this.#values.size >= recordsMax) return `there are ${recordsMax} challenges already`;
    this.#values.set(key, parsed.value.value);
    return '';
  }

  /** Of a name: the values of its TXT records, none when it has none. */
  lookUp(key: string): readonly string[] {
    return this.#values.size === 0 || key !== this.name ? [] : [...new Set(this.#values.values())];
  }
}

/** RDATA of a TXT record with one character-string (RFC 1035, section 3.3.14); at most 255 ASCII characters. */
export function textData(text: string): Uint8Array {
  return Uint8Array.from([text.length, ...[...text].map((letter) => letter.charCodeAt(0))]);
}
