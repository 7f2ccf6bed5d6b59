import t from 'tap';
import { holdWorld } from './held-world.ts';

t.test('two worlds share no address', async (t) => {
  const [one, other] = await Promise.all([holdWorld(), holdWorld()]);
  t.teardown(() => Promise.all([one.stop(), other.stop()]));
  const addresses = (world: typeof one): string[] => [...world.description.dnsAddresses, ...world.description.edgepoints.flatMap((site) => [site.ipv4, site.ipv6])];
  const networks = (world: typeof one): Set<string> => new Set(addresses(world).map((address) => address.split(/[.:]/).slice(0, address.includes(':') ? 3 : 2).join(' ')));
  t.same([...networks(one)].filter((network) => networks(other).has(network)), []);
  t.equal(await one.stop(), 0);
  t.equal(await other.stop(), 0);
});
