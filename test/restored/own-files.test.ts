import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import type { RunningInstance } from '../../edgepoint/model/calls.ts';
import { openEngine } from './engine.ts';
import type { Engine } from './engine.ts';

const files = [
  { path: '/run/edgepoint/me.json', text: '{"instance":"{instance}","address":"{address}","peers":"{peers}","other":{"{braces}":1}}' },
  { path: '/app/config/name', text: 'I am {instance}\n' },
  { path: '/tmp/address', text: '{address}' },
];
const hosts = "const lookup = require('dns').promises.lookup; return Promise.all(['self', 'shop', 'localhost'].map(async (name) => (await lookup(name, { family: 4 })).address))";

interface Seen {
  readonly me: { readonly instance: string; readonly address: string; readonly peers: string };
  readonly name: string;
  readonly address: string;
  readonly hosts: readonly string[];
}

async function seenBy(engine: Engine, instance: RunningInstance): Promise<Seen> {
  const seen = (await engine.run(instance, `const fs = require('fs'); return ['/run/edgepoint/me.json', '/app/config/name', '/tmp/address'].map((path) => fs.readFileSync(path, 'utf8'))`)) as [string, string, string];
  return { me: JSON.parse(seen[0]) as Seen['me'], name: seen[1], address: seen[2], hosts: (await engine.run(instance, hosts)) as string[] };
}

function isItself(t: Test, seen: Seen, instance: RunningInstance): void {
  t.match(seen.me, { instance: instance.instance, address: instance.address, other: { '{braces}': 1 } }, `${instance.instance} reads its own name and address; other braces stay`);
  t.equal(seen.name, `I am ${instance.instance}\n`);
  t.equal(seen.address, instance.address);
  t.same(seen.hosts, [instance.address, instance.address, '127.0.0.1'], 'self and the hostname lead to it');
}

t.test('each clone of a template has files of its own', async (t) => {
  const engine = await openEngine(t);
  const first = await engine.boot(engine.order('first', { files }));
  const booted = await seenBy(engine, first);
  isItself(t, booted, first);
  t.equal(booted.me.peers, '', 'it was alone when it started');
  t.same(await engine.run(first, `const fs = require('fs'); return ['/run/edgepoint', '/tmp', '/app/config', '/tmp/address'].map((path) => { const { uid, gid, mode } = fs.statSync(path); return [path, uid, gid, (mode & 0o7777).toString(8)].join(' '); })`),
    ['/run/edgepoint 0 0 755', '/tmp 0 0 1777', '/app/config 0 0 755', '/tmp/address 0 0 644'], 'they and the folders they needed are its root\'s; folders that were there stay as they were');
  await engine.run(first, `require('fs').appendFileSync('/app/config/name', 'and have written this'); require('fs').unlinkSync('/tmp/address')`);

  const path = engine.snapshotPath('shop');
  await engine.snapshot('first', path, true);
  const clones = await Promise.all([1, 2, 3, 4].map((n) => engine.restore({ ...engine.order(`clone${n}`, { files }), snapshotPath: path, continues: false })));
  const seen = await Promise.all(clones.map((clone) => seenBy(engine, clone)));
  for (const [index, clone] of clones.entries()) isItself(t, seen[index] as Seen, clone);
  t.equal(new Set(seen.map(({ me }) => me.address)).size, 4, 'no two have one address');
  const known = new Set([first, ...clones].map(({ address }) => address));
  for (const { me } of seen) t.ok(me.peers.split(',').includes(first.address) && me.peers.split(',').every((peer) => known.has(peer) && peer !== me.address), `peers are the others that ran then: ${me.peers}`);
  t.match(engine.hot().map((folder) => readFileSync(join(folder, 'disk/app/config/name'), 'utf8')), [/^I am first\n/], 'the template keeps what it was taken with');
  await Promise.all([first, ...clones].map(({ instance }) => engine.stop(instance)));
  await engine.nothingRemains(t, 'nothing is left');
});

t.test('an instance that keeps its state wakes with its own', async (t) => {
  const engine = await openEngine(t);
  const order = engine.order('kept', { files, ownNetwork: true });
  const before = await engine.boot(order);
  isItself(t, await seenBy(engine, before), before);
  const path = engine.snapshotPath('kept');
  await engine.snapshot('kept', path, false);
  const after = await engine.restore({ ...order, address: before.address, snapshotPath: path, continues: true });
  t.equal(after.address, before.address);
  isItself(t, await seenBy(engine, after), after);
});

t.test('each booted instance has an environment of its own', async (t) => {
  const engine = await openEngine(t);
  const env = { NAME: 'node-{instance}', BIND: '{address}:1', OTHER: '{other} {"instance":1}', PORT: '8080' };
  for (const name of ['one', 'two']) {
    const instance = await engine.boot(engine.order(name, { env }));
    const seen = await engine.run(instance, 'return [process.env.NAME, process.env.BIND, process.env.OTHER]');
    t.same(seen, [`node-${name}`, `${instance.address}:1`, '{other} {"instance":1}']);
  }
});

t.test('what a program puts in the way leads nowhere', async (t) => {
  const engine = await openEngine(t);
  const outside = join(engine.folder, 'outside');
  const rows: readonly (readonly [story: string, body: string, can: boolean])[] = [
    ['a link in the place of the file', `fs.unlinkSync('/run/edgepoint/me.json'); fs.symlinkSync('${outside}', '/run/edgepoint/me.json')`, true],
    ['a pipe in the place of the file', `fs.unlinkSync('/run/edgepoint/me.json'); require('child_process').execFileSync('mkfifo', ['/run/edgepoint/me.json'])`, true],
    ['a link in the place of the folder', `fs.rmSync('/run/edgepoint', { recursive: true }); fs.symlinkSync('${engine.folder}', '/run/edgepoint')`, false],
    ['a folder in the place of the file', `fs.unlinkSync('/run/edgepoint/me.json'); fs.mkdirSync('/run/edgepoint/me.json')`, false],
    ['the file is held open, and is of another length for another instance', `state.held = fs.openSync('/run/edgepoint/me.json')`, false],
    ['a link in the place of /etc/hosts', `fs.unlinkSync('/etc/hosts'); fs.symlinkSync('${outside}', '/etc/hosts')`, true],
  ];
  for (const [index, [story, body, can]] of rows.entries()) {
    const name = `row${index}`;
    const first = await engine.boot(engine.order(name, { files }));
    await engine.run(first, `const fs = require('fs'); ${body}`);
    await engine.snapshot(name, engine.snapshotPath(name), true);
    await engine.stop(name);
    const waking = engine.restore({ ...engine.order(`${name}c`, { files }), snapshotPath: engine.snapshotPath(name), continues: false });
    if (can) isItself(t, await seenBy(engine, await waking), (await engine.list())[0] as RunningInstance);
    else await t.rejects(waking, { code: 'cannot-restore', message: /a file of the manifest|replace \/run|has bad size/ }, `${story}: it is told, and the wake goes on by a cold boot`);
    for (const { instance } of await engine.list()) await engine.stop(instance);
    t.same(existsSync(engine.place.path(outside)), false, `${story}: nothing was written outside`);
    t.same(existsSync(engine.place.path(join(engine.folder, 'me.json'))), false);
  }
  await engine.nothingRemains(t, 'nothing is left');
});
