/**
 * 53 bits that tell whether a text is the same as one seen before, without keeping it: two different texts are taken for one once in
 * 2^53. No shield against somebody who looks for such a pair. Two lanes of FNV-1a, each finished as murmur3 does.
 */
export function fingerprint(text: string): number {
  let one = 0x811c9dc5;
  let other = 0x9e3779b9;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    one = Math.imul(one ^ code, 16_777_619);
    other = Math.imul(other ^ code, 0x5bd1e995) + 1;
  }
  return (finish(one) >>> 0) * 2 ** 21 + (finish(other) >>> 11);
}

function finish(lane: number): number {
  let hash = Math.imul(lane ^ (lane >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
