import { ownerKey } from '../../kit/ids.ts';
import { bytesPerMebibyte } from '../../kit/units.ts';
import type { ReleaseOrder } from '../model/app.ts';
import type { StoredItem } from '../perf/meter.ts';
import type { StoredVolume } from '../volumes/ports.ts';
import type { HeadRecords, Remembered } from './records.ts';

/** What lies at rest and is charged: templates, kept snapshots, volumes at the size they were promised, and their snapshots. */
function volumesOf(order: ReleaseOrder): StoredItem[] {
  return order.manifest.volume.map((volume) => ({
    owner: order.owner,
    release: order.release,
    item: `volume-${volume.name}`,
    bytes: volume.sizeMegabytes * bytesPerMebibyte,
  }));
}

const templateItem = (order: ReleaseOrder, bytes: number): StoredItem => ({ owner: order.owner, release: order.release, item: `template-${order.release}`, bytes });

/** Of the object store; of no one release. */
const snapshotsItem = ({ owner, volume, bytes }: StoredVolume): StoredItem => ({ owner, release: 1, item: `snapshots-${volume}`, bytes });

/** What lay at rest when the head was last alive. */
export function storedAtStart(remembered: Remembered): StoredItem[] {
  const items: StoredItem[] = [];
  for (const { order, facts } of remembered.releases) if (facts !== null && facts.templateBytes > 0) items.push(templateItem(order, facts.templateBytes));
  for (const { order } of remembered.serving.values()) items.push(...volumesOf(order));
  for (const [key, { kept }] of remembered.kept) {
    const serving = remembered.serving.get(key);
    if (kept !== null && serving !== undefined) items.push({ owner: serving.order.owner, release: kept.release, item: 'kept', bytes: kept.bytes });
  }
  return [...items, ...remembered.storedVolumes.map(snapshotsItem)];
}

/** The same records, with every change of what lies at rest told to the meter. */
export function meteredRecords(records: HeadRecords, tell: (item: StoredItem) => void): HeadRecords {
  /** By app: volumes of the release that serves. */
  const volumes = new Map<string, readonly StoredItem[]>();
  return {
    ...records,
    save: async (order, facts, rejected) => {
      await records.save(order, facts, rejected);
      tell(templateItem(order, facts?.templateBytes ?? 0));
    },
    forget: async (owner, release) => {
      await records.forget(owner, release);
      tell({ owner, release, item: `template-${release}`, bytes: 0 });
    },
    setServing: async (owner, release) => {
      await records.setServing(owner, release);
      const before = volumes.get(ownerKey(owner)) ?? [];
      const found = release === null ? null : await records.find(owner, release);
      const now = found === null ? [] : volumesOf(found.order);
      for (const item of before) if (!now.some((other) => other.item === item.item)) tell({ ...item, bytes: 0 });
      for (const item of now) tell(item);
      if (now.length === 0) volumes.delete(ownerKey(owner));
      else volumes.set(ownerKey(owner), now);
    },
    saveKept: async (owner, kept) => {
      await records.saveKept(owner, kept);
      tell({ owner, release: kept.release, item: 'kept', bytes: kept.bytes });
    },
    saveStoredVolume: async (stored) => {
      await records.saveStoredVolume(stored);
      tell(snapshotsItem(stored));
    },
    forgetKept: async (owner) => {
      await records.forgetKept(owner);
      tell({ owner, release: 1, item: 'kept', bytes: 0 });
    },
  };
}
