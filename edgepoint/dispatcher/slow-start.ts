/** What an instance gets from the first moment on: one that got nothing would never become warm. */
export const shareMin = 0.1;

/**
 * Which part of the share of an instance that has served for long one of this age gets, `shareMin` to 1: it rises evenly for `slowStartNs`.
 * Programs that compile what they run often (JIT), fill caches or take their memory from a snapshot as they touch it answer slowly at first,
 * and least outstanding alone would give such a newcomer every request until it has as many as the others. (Envoy and nginx, `slow_start`,
 * do the same.)
 */
export function shareOfAge(ageNs: number, slowStartNs: number): number {
  if (slowStartNs <= 0 || ageNs >= slowStartNs) return 1;
  return Math.max(shareMin, ageNs / slowStartNs);
}
