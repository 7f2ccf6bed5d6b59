import fc from 'fast-check';
import t from 'tap';
import { parseCounters, trafficOf } from '../../edgepoint/kernel-path/counters.ts';
import { changeText, elementsOf } from '../../edgepoint/kernel-path/elements.ts';
import type { OwnApp } from '../../edgepoint/kernel-path/elements.ts';
import { heldMark, ruleset, slots } from '../../edgepoint/kernel-path/table.ts';
import type { Route } from '../../edgepoint/model/calls.ts';

function app(about: { instances: number; draining?: readonly number[]; status?: Route['status']; ipv6?: string; number?: number }): OwnApp {
  return {
    number: about.number ?? 7,
    draining: new Set((about.draining ?? []).map((at) => `i-${at}`)),
    route: {
      owner: { provider: 'ada', scope: 'main', app: 'echo' },
      hosts: ['echo.edge.test'],
      status: about.status ?? 'ready',
      reason: '',
      concurrency: 1,
      holdMs: 1,
      instances: Array.from({ length: about.instances }, (_, at) => ({ instance: `i-${at}`, address: `10.1.16.${at + 2}`, port: 80 })),
      own: { ipv4: '192.0.2.5', ipv6: about.ipv6 ?? '2001:db8::5', idleMs: 1000, ports: [{ protocol: 'udp', port: 53, targetPort: 5353 }] },
    },
  };
}

const of = (one: OwnApp, set: string): string[] => [...elementsOf(one).values()].filter((element) => element.set === set).map(({ key, value }) => `${key} : ${value}`);

t.test('an app that sleeps is held for, and leads nowhere', async (t) => {
  t.strictSame([...elementsOf(app({ instances: 0 })).values()], [
    { set: 'held4', key: '192.0.2.5 . udp . 53', value: `${heldMark + 7}` },
    { set: 'held6', key: '2001:db8::5 . udp . 53', value: `${heldMark + 7}` },
  ]);
  t.equal(elementsOf(app({ instances: 0, status: 'failed' })).size, 0, 'one that failed is not held for');
  t.strictSame(of(app({ instances: 0, ipv6: '' }), 'held6'), [], 'and has no family that it was not given');
});

t.test('one instance is one element of each family', async (t) => {
  t.strictSame(of(app({ instances: 1 }), 'one4'), ['192.0.2.5 . udp . 53 : 10.1.16.2 . 5353']);
  t.strictSame(of(app({ instances: 1 }), 'one6'), ['2001:db8::5 . udp . 53 : fd45:6467:6570::a01:1002 . 5353']);
  t.strictSame(of(app({ instances: 1 }), 'many4'), []);
  t.strictSame(of(app({ instances: 1 }), 'mark4'), [`10.1.16.2 : ${0x0a011002}`], 'its flows are marked with its address');
});

t.test('where it has ports of the edgepoint’s own address, those lead to it', async (t) => {
  const one = app({ instances: 1 });
  const own = { ...one.route.own, ipv4: '', ipv6: '', idleMs: 1, ports: [{ protocol: 'udp' as const, port: 53, targetPort: 5353 }], shared: { ipv4: '198.51.100.1', ports: { 'udp/53': 20_007 } } };
  const shared = { ...one, route: { ...one.route, own } };
  t.strictSame(of(shared, 'one4'), ['198.51.100.1 . udp . 20007 : 10.1.16.2 . 5353']);
  t.strictSame(of(shared, 'one6'), []);
});

t.test('several share all slots alike; one that drains is given nothing new, and is still counted', async (t) => {
  const three = of(app({ instances: 3 }), 'many4');
  t.equal(three.length, slots);
  for (const at of [2, 3, 4]) t.equal(three.filter((line) => line.endsWith(`10.1.16.${at} . 5353`)).length, slots / 3);
  const draining = app({ instances: 2, draining: [0] });
  t.strictSame(of(draining, 'one4'), ['192.0.2.5 . udp . 53 : 10.1.16.3 . 5353']);
  t.equal(of(draining, 'in4').length, 4, 'both, by two protocols');
  t.strictSame(of(app({ instances: 1, draining: [0] }), 'one4'), []);
});

t.test('a change brings any state to any other, each thing once', async (t) => {
  const states = fc.record({ instances: fc.nat(5), draining: fc.array(fc.nat(5)), status: fc.constantFrom<Route['status']>('ready', 'failed', 'preparing'), ipv6: fc.constantFrom('', '2001:db8::5', '2001:db8::6') });
  t.doesNotThrow(() => fc.assert(
    fc.property(states, states, (one, other) => {
      const before = elementsOf(app(one));
      const after = elementsOf(app(other));
      // The dumb twin: a table of lines, changed as the text says.
      const table = new Set([...before.values()].map(({ set, key }) => `${set} ${key}`));
      const values = new Map([...before].map(([name, { value }]) => [name, value]));
      for (const line of changeText(before, after).split('\n').filter(Boolean)) {
        const [, verb = '', set = '', list = ''] = /^(add|delete) element inet \S+ (\S+) \{ (.*) \}$/.exec(line) ?? [];
        for (const element of list.split(', ')) {
          const [key = '', value = ''] = element.split(' : ');
          const name = `${set} ${key}`;
          // nftables refuses to delete what is not there, and to add another value.
          if (verb === 'delete') {
            if (!table.delete(name)) return false;
            values.delete(name);
          } else {
            if (table.has(name)) return false;
            table.add(name);
            values.set(name, value);
          }
        }
      }
      return JSON.stringify([...values].toSorted()) === JSON.stringify([...after].map(([name, { value }]) => [name, value]).toSorted());
    }),
  ));
});

t.test('counters are read as nft lists them, and headers are taken off', async (t) => {
  const text = `table inet edgepoint-own {
	set in4 {
		type ipv4_addr . inet_proto
		counter
		elements = { 10.1.16.2 . tcp counter packets 10 bytes 1520,
			     10.1.16.2 . udp counter packets 2 bytes 156 }
	}
	set out6 {
		elements = { fd45:6467:6570::a01:1002 . udp counter packets 1 bytes 148 }
	}
}`;
  t.strictSame(trafficOf(parseCounters(text), '10.1.16.2'), { packetsIn: 12, bytesIn: 1000 + 100, bytesOut: 100 });
  t.strictSame(trafficOf(parseCounters(text), '10.1.16.3'), { packetsIn: 0, bytesIn: 0, bytesOut: 0 });
  t.strictSame(trafficOf(parseCounters(text.replace('bytes 1520', 'bytes 400')), '10.1.16.2').bytesIn, 100, 'acknowledgements without options are not negative');
});

t.test('a family without a range has no rule', async (t) => {
  const rules = ruleset({ ipv4: '192.0.2.0/28', ipv6: '', ports: '', sharedIpv4: '198.51.100.1' }, 'instances0');
  t.match(rules, 'ip daddr 192.0.2.0/28 dnat ip to');
  t.notMatch(rules, /ip6 daddr .* dnat ip6 to/);
  t.notMatch(rules, '198.51.100.1');
  t.match(ruleset({ ipv4: '', ipv6: '', ports: '20000-20999', sharedIpv4: '198.51.100.1' }, 'instances0'), 'ip daddr 198.51.100.1 meta l4proto { tcp, udp } th dport 20000-20999 dnat ip to');
});
