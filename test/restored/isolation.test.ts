import t from 'tap';
import { isolationOf, knowsSlices, namespaces, namespacesOf } from './facts.ts';
import { lineUp } from './line-up.ts';

for (const ownNetwork of [false, true]) {
  t.test(`a restored instance is isolated exactly as a booted one (${ownNetwork ? 'own' : 'shared'} network)`, async (t) => {
    const { engine, neighbour, booted, others } = await lineUp(t, ownNetwork);
    const machine = namespacesOf('self');
    const all = [['neighbour', neighbour], ['booted', booted], ...others] as const;
    const seen = new Map<string, string>();
    for (const [label, instance] of all) {
      const own = namespacesOf(instance.pid);
      for (const name of namespaces) {
        t.not(own[name], machine[name], `${label}: its ${name} namespace is not the machine's`);
        if (name.endsWith('_for_children')) t.equal(own[name], own[name.slice(0, -'_for_children'.length)], `${label}: its children share its ${name}`);
        else {
          t.notOk(seen.has(own[name] as string), `${label}: its ${name} namespace is its own`);
          seen.set(own[name] as string, label);
        }
      }
    }
    const expected = isolationOf(booted, engine.runFolder);
    t.match(expected['status'], ['Umask:\t0022'], 'the facts are there');
    for (const fact of ['NoNewPrivs:\t1', 'Seccomp:\t2', 'Seccomp_filters:\t1', 'CapAmb:\t0000000000000000', 'CapInh:\t0000000000000000', 'CapBnd:\t00000000000004fb', 'CapEff:\t00000000000004fb', 'CapPrm:\t00000000000004fb']) {
      t.ok((expected['status'] as string[]).includes(fact), fact);
    }
    t.same(expected['scheduling'], [`policy:0 prio:120${knowsSlices ? ' se.slice:100000' : ''}`], 'all its threads have the shortest time slice');
    t.notOk((expected['descriptors'] as string[]).some((target) => target.includes('OUTSIDE')), 'no descriptor points outside');
    for (const [label, instance] of others) {
      const found = isolationOf(instance, engine.runFolder);
      for (const [fact, value] of Object.entries(expected)) t.same(found[fact], value, `${label}: ${fact}`);
    }
    const inside = `const os = require('os'), fs = require('fs'); return {
      host: os.hostname(), cwd: process.cwd(), user: process.getuid(), groups: process.getgroups(), umask: process.umask(),
      cgroup: fs.readFileSync('/proc/self/cgroup', 'utf8'), links: Object.keys(os.networkInterfaces()).sort(), pid: process.pid, parent: process.ppid,
      route: fs.readFileSync('/proc/net/route', 'utf8'), port: fs.readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'),
      processes: fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name)).length, dev: fs.readdirSync('/dev').sort(), root: fs.readdirSync('/').sort(), environment: process.env }`;
    const view = await engine.run(booted, inside);
    t.match(view, { host: 'shop', cwd: '/app', pid: 1, parent: 0, processes: 1, user: 0, groups: [0], environment: { NAME: 'value' } });
    for (const [label, instance] of others) t.same(await engine.run(instance, inside), view, `${label} sees of itself what a booted one sees`);
  });
}
