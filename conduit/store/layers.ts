import type { Client, Row } from '@libsql/client';
import type { Site } from '../../kit/ids.ts';
import { layerObject } from '../../kit/wire/subjects.ts';
import { isHostedRelease, isKeptRelease } from './apps.ts';

/** Which layers of images the releases in conduit.db need. */
export interface LayerNeeds {
  /** `<provider>/<digest>` of each that a kept release of a live app needs. */
  ofKept(kept: number): Promise<ReadonlySet<string>>;
  /** By their names in the object store (`layerObject`): what live apps' current releases, and their canaries, need at this site. */
  objectsAt(site: Site): Promise<ReadonlySet<string>>;
}

export function openLayerNeeds(database: Client): LayerNeeds {
  const rows = async (sql: string, args: (string | number)[]): Promise<Row[]> => (await database.execute({ sql, args })).rows;
  const layers = "json_each(releases.manifest, '$.image.layers') AS layer";
  return {
    async ofKept(kept) {
      const found = await rows(`SELECT DISTINCT apps.provider, layer.value AS digest FROM apps JOIN releases ON releases.appId = apps.id, ${layers} WHERE ${isKeptRelease}`, [kept]);
      return new Set(found.map((row) => `${String(row['provider'])}/${String(row['digest'])}`));
    },
    async objectsAt(site) {
      const found = await rows(`SELECT DISTINCT apps.provider, layer.value AS digest FROM ${isHostedRelease.from}, ${layers} WHERE ${isHostedRelease.where}`, [site.zone, site.edgepoint]);
      return new Set(found.map((row) => layerObject(String(row['provider']), String(row['digest']))));
    },
  };
}
