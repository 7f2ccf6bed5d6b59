import type { World } from './start.ts';

/** What `npm start` shows once the world is up; true when all it showed was as it should be. */
export async function runStory(world: World, say: (line: string) => void): Promise<boolean> {
  const { conduitUrl, dnsAddresses, edgepoints } = world.describe();
  say(`conduit: ${conduitUrl}   DNS: ${dnsAddresses.join(', ')} port 53`);
  for (const site of edgepoints) say(`edgepoint ${site.zone}/${site.edgepoint}: ${site.ipv4}, ${site.ipv6} (network namespace ${site.netns})`);
  return true;
}
