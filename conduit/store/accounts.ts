import type { Client } from '@libsql/client';
import { Failure } from '../../kit/errors.ts';
import { namePattern } from '../../kit/ids.ts';
import type { RandomBytes } from '../../kit/ids.ts';
import { newToken, secretFits, splitToken } from '../token.ts';

/** Who is speaking: a provider, by one of its tokens or by a session of the web page. */
export interface Speaker {
  readonly provider: string;
  readonly tokenId: string;
}

export interface AccountStore {
  /** Makes the account when it is not there, and one more token for it; the text is returned this once. */
  addToken(provider: string, randomBytes: RandomBytes, wallMs: number): Promise<string>;
  /** Null when the token is unknown, wrong or revoked: which of these is nobody's business. */
  findSpeaker(tokenText: string): Promise<Speaker | null>;
  /** Whether a token that was good is not revoked. */
  isGood(tokenId: string): Promise<boolean>;
  openSession(speaker: Speaker, randomBytes: RandomBytes, wallMs: number): Promise<string>;
  findSession(text: string, wallMs: number): Promise<Speaker | null>;
  endSession(text: string): Promise<void>;
}

export const sessionMs = 12 * 60 * 60 * 1000;

export function openAccountStore(database: Client): AccountStore {
  return {
    async addToken(provider, randomBytes, wallMs) {
      if (!namePattern.test(provider)) {
        throw new Failure('provider-name', `${JSON.stringify(provider)} is no name for a provider`, {
          remedy: 'Use lower-case letters, digits and inner hyphens, 1 to 40 of them, beginning with a letter.',
        });
      }
      const token = newToken(randomBytes);
      await database.batch(
        [
          { sql: 'INSERT OR IGNORE INTO providers VALUES (?, ?)', args: [provider, wallMs] },
          { sql: 'INSERT INTO tokens VALUES (?, ?, ?, ?, NULL)', args: [token.id, provider, token.hash, wallMs] },
        ],
        'write',
      );
      return token.text;
    },
    async findSpeaker(tokenText) {
      const parts = splitToken(tokenText);
      if (!parts) return null;
      const { rows } = await database.execute({ sql: 'SELECT provider, hash FROM tokens WHERE id = ? AND revokedWallMs IS NULL', args: [parts.id] });
      const row = rows[0];
      return row && secretFits(parts.secret, String(row['hash'])) ? { provider: String(row['provider']), tokenId: parts.id } : null;
    },
    async isGood(tokenId) {
      const { rows } = await database.execute({ sql: 'SELECT 1 FROM tokens WHERE id = ? AND revokedWallMs IS NULL', args: [tokenId] });
      return rows.length > 0;
    },
    async openSession(speaker, randomBytes, wallMs) {
      const session = newToken(randomBytes);
      await database.batch(
        [
          { sql: 'DELETE FROM sessions WHERE endsWallMs < ?', args: [wallMs] },
          // The oldest sessions of a token give way, so that signing in again and again cannot fill the table.
          { sql: 'DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE tokenId = ? ORDER BY endsWallMs DESC LIMIT -1 OFFSET 31)', args: [speaker.tokenId] },
          { sql: 'INSERT INTO sessions VALUES (?, ?, ?, ?, ?)', args: [session.id, speaker.provider, speaker.tokenId, session.hash, wallMs + sessionMs] },
        ],
        'write',
      );
      return session.text;
    },
    async findSession(text, wallMs) {
      const parts = splitToken(text);
      if (!parts) return null;
      const { rows } = await database.execute({
        sql: `SELECT sessions.provider, sessions.hash, tokenId FROM sessions JOIN tokens ON tokens.id = tokenId
              WHERE sessions.id = ? AND endsWallMs > ? AND revokedWallMs IS NULL`,
        args: [parts.id, wallMs],
      });
      const row = rows[0];
      return row && secretFits(parts.secret, String(row['hash'])) ? { provider: String(row['provider']), tokenId: String(row['tokenId']) } : null;
    },
    async endSession(text) {
      const parts = splitToken(text);
      if (parts) await database.execute({ sql: 'DELETE FROM sessions WHERE id = ?', args: [parts.id] });
    },
  };
}
