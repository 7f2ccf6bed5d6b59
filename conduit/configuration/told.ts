import { Failure } from '../../kit/errors.ts';
import { siteKey } from '../../kit/ids.ts';
import type { Site } from '../../kit/ids.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import type { WrappedSecrets } from '../../kit/wire/secrets.ts';
import type { SeenEdgepoint } from '../describe-app.ts';
import { configuredManifest } from './change.ts';
import type { Configuration } from './change.ts';
import type { SecretsPlace, Vault } from './vault.ts';

export interface TellPorts {
  readonly vault: Vault;
  readonly edgepoints: { seen(): ReadonlyMap<string, SeenEdgepoint> };
}

/** What an edgepoint is told of a release. */
export interface ToldConfiguration {
  readonly manifest: Manifest;
  readonly secrets?: WrappedSecrets;
}

/** Throws `edgepoint-key-unknown` when the release has secrets and that edgepoint has not told yet for which key they are to be wrapped. */
export async function configurationFor({ vault, edgepoints }: TellPorts, place: SecretsPlace, site: Site, from: { readonly manifest: Manifest; readonly configuration: Configuration }): Promise<ToldConfiguration> {
  const { configuration } = from;
  const manifest = configuredManifest(from.manifest, configuration);
  if (Object.keys(configuration.secrets).length === 0) return { manifest };
  const opens = edgepoints.seen().get(siteKey(site))?.state.opens ?? '';
  if (opens === '') throw new Failure('edgepoint-key-unknown', `${siteKey(site)} has not told yet for which key secrets are to be wrapped`, { remedy: 'It is told as soon as that edgepoint is there.' });
  return { manifest, secrets: await vault.wrap(place, site, opens, configuration.secrets) };
}
