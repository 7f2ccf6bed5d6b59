import type { Client } from '@libsql/client';
import type { ProviderKeys } from '../configuration/vault.ts';

export function openProviderKeys(database: Client): ProviderKeys {
  const find = async (provider: string): Promise<string | null> => {
    const { rows } = await database.execute({ sql: 'SELECT wrapped FROM provider_keys WHERE provider = ?', args: [provider] });
    return rows[0] ? String(rows[0]['wrapped']) : null;
  };
  return {
    find,
    async add(provider, wrapped) {
      await database.execute({ sql: 'INSERT OR IGNORE INTO provider_keys VALUES (?, ?)', args: [provider, wrapped] });
      return (await find(provider)) ?? wrapped;
    },
    async any() {
      const { rows } = await database.execute('SELECT provider, wrapped FROM provider_keys LIMIT 1');
      return rows[0] ? { provider: String(rows[0]['provider']), wrapped: String(rows[0]['wrapped']) } : null;
    },
  };
}
