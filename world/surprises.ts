import type { Journal } from './journal.ts';

/**
 * Of what the clean-up removed, what should have been gone by then: a daemon removes its own things when it ends.
 * What the world itself made (it stands in the journal) is removed by the clean-up in good order; so are running instances, which
 * outlive the daemon that started them, and empty cgroups.
 */
export function surprises(removed: readonly string[], journal: Journal): string[] {
  const own = new Set(
    journal.entries.flatMap((entry) => {
      if (entry.made === 'netns' || entry.made === 'link') return [`${entry.made} ${entry.name}`];
      return entry.made === 'mount' ? [`mount ${entry.path}`] : [];
    }),
  );
  return removed.filter((thing) => !own.has(thing) && !/^(cgroup|instance-process) /.test(thing));
}
