import type { Vault } from '../configuration/vault.ts';

const name = 'secret';

/** Secrets of webhooks lie as those of apps do, under the key of their provider; no app has this scope. */
export function sealedWith(vault: Pick<Vault, 'seal' | 'open'>): { seal(provider: string, secret: string): Promise<string>; open(provider: string, sealed: string): Promise<string> } {
  const place = (provider: string) => ({ owner: { provider, scope: 'webhook', app: 'alerts' }, release: 0 });
  return {
    seal: (provider, secret) => vault.seal(place(provider), { [name]: { value: secret, setWallMs: 0, release: 0 } }),
    open: async (provider, sealed) => (await vault.open(place(provider), sealed))[name]?.value ?? '',
  };
}
