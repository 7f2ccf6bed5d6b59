/**
 * On which compute module an instance is started. Today an edgepoint has one; further modules become further rows of the list
 * that the composition hands in, and further rules become further comparisons here.
 */
export interface ModuleView {
  readonly name: string;
  readonly freeBytes: number;
}

export const soleModule = 'local';

/** The module with the most free memory, by name when equal; null when there is none with room. */
export function planPlace(modules: readonly ModuleView[], memoryBytes: number): { module: string; reason: string } | null {
  let best: ModuleView | null = null;
  for (const module of modules) {
    if (module.freeBytes < memoryBytes) continue;
    const better = best === null || module.freeBytes > best.freeBytes || (module.freeBytes === best.freeBytes && module.name < best.name);
    if (better) best = module;
  }
  return best === null ? null : { module: best.name, reason: `${best.name} has the most free memory` };
}
