import t from 'tap';
import { planDeploy } from '../../edgepoint/deploy/plan.ts';
import type { DeployFacts } from '../../edgepoint/deploy/plan.ts';
import { judgePreparation, tryAgain, whyUnsafe } from '../../edgepoint/deploy/verdict.ts';
import type { Measured } from '../../edgepoint/deploy/verdict.ts';
import type { ReleaseFacts, ReleaseOrder } from '../../edgepoint/model/app.ts';
import { bootOrder, instanceEnv, restoreOrder, runsAlone } from '../../edgepoint/model/orders.ts';
import { fillText } from '../../edgepoint/model/files.ts';
import { dataPaths } from '../../edgepoint/model/paths.ts';
import { type Manifest, manifestSchema } from '../../kit/wire/manifest.ts';

const order: ReleaseOrder = {
  owner: { provider: 'p', scope: 'main', app: 'shop' },
  release: 3,
  artefactDigest: `sha256:${'a'.repeat(64)}`,
  manifest: manifestSchema.parse({ app: 'shop', command: ['node', 'x.js'], port: 8080, env: { PORT: '1', COLOUR: 'red' } }),
  hosts: ['shop.edge.test'],
  uidSlot: 4,
  deployId: 'd-1',
};
const known: ReleaseFacts = { wakeBy: 'template', wakeReason: '', staysAwake: '', snapshotPath: '/s', templateBytes: 1, coldBootMs: 90, restoreMs: 30 };
const facts: DeployFacts = { servingRelease: null, known: null, rejected: '', unpacked: false, mustPause: false };

const rows: readonly [string, DeployFacts, string][] = [
  ['a first release', facts, 'fetch-and-unpack prepare promote retire-others'],
  ['its artefact is here already', { ...facts, unpacked: true }, 'prepare promote retire-others'],
  ['the head was restarted after the preparation', { ...facts, unpacked: true, known }, 'promote retire-others'],
  ['it serves', { ...facts, unpacked: true, known, servingRelease: 3 }, ''],
  ['an older one serves', { ...facts, servingRelease: 2 }, 'fetch-and-unpack prepare promote retire-others'],
  ['an older one serves on the same volume', { ...facts, unpacked: true, servingRelease: 2, mustPause: true }, 'pause prepare promote retire-others'],
  ['it was found unable', { ...facts, rejected: 'it ended at once' }, 'reject'],
  ['it serves, and its artefact was lost', { ...facts, known, servingRelease: 3 }, 'fetch-and-unpack'],
];
for (const [story, of, expected] of rows) {
  t.test(`deploy: ${story}`, async (t) => {
    const steps = planDeploy(order, of);
    t.equal(steps.map((step) => step.kind).join(' '), expected);
    for (const step of steps) t.not(step.reason, '');
  });
}

const snapshot = { path: '/s', bytes: 7 };
const repeats = { code: 'unguarded', why: 'it repeats', remedy: '' } as const;
const measured: Measured = { state: 'template', coldBootMs: 100, snapshot, unsafe: null, trial: { restoreMs: 25 } };
const verdicts: readonly [string, Measured, string][] = [
  ['it restores faster', measured, 'template'],
  ['it boots faster', { ...measured, coldBootMs: 25 }, 'cold: it boots faster (25.0 ms) than it restores (25.0 ms)'],
  ['it boots faster, but keeps state', { ...measured, state: 'keep', coldBootMs: 20 }, 'keep'],
  ['clones would repeat each other', { ...measured, unsafe: repeats, trial: null }, 'cold: it repeats'],
  ['clones would, but there are none of what keeps state', { ...measured, state: 'keep', unsafe: repeats }, 'keep'],
  ['no snapshot', { ...measured, snapshot: { failure: 'io_uring' }, trial: null }, 'cold: it cannot be snapshotted: io_uring'],
  ['no restore', { ...measured, trial: { failure: 'torn' } }, 'cold: its snapshot does not restore: torn'],
  [
    'no snapshot of what keeps state',
    { ...measured, state: 'keep', snapshot: { failure: 'io_uring' }, trial: null },
    'cold: it cannot be snapshotted: io_uring; stays awake: its state cannot be kept: it cannot be snapshotted: io_uring',
  ],
];
for (const [story, of, expected] of verdicts) {
  t.test(`verdict: ${story}`, async (t) => {
    const verdict = judgePreparation(of);
    const words = [verdict.wakeBy, verdict.wakeReason].filter((word) => word !== '').join(': ');
    t.equal(verdict.staysAwake === '' ? words : `${words}; stays awake: ${verdict.staysAwake}`, expected);
    t.equal(verdict.snapshotPath, verdict.wakeBy === 'cold' ? '' : '/s');
  });
}

t.test('clones repeat random numbers unless every program has the guard or the manifest answers for it', async (t) => {
  const why = (unguarded: readonly string[], change: Partial<Manifest>): string => whyUnsafe(unguarded, { env: {}, process: [], snapshot: { randomness: 'guarded' }, ...change })?.why ?? '';
  const statically = 'server (linked statically)';
  t.equal(why([], {}), '');
  t.match(why([statically], {}), /^server \(linked statically\) may hold .*`snapshot.randomness = "own"`.*`snapshot.after`$/);
  t.match(why([statically, 'b (thread_rng of Rust)'], { snapshot: { randomness: 'guarded', before: '/b' } }), /^server \(linked statically\), b \(thread_rng of Rust\) may hold/);
  t.equal(why([statically], { snapshot: { randomness: 'own' } }), '');
  t.equal(why([statically], { snapshot: { randomness: 'guarded', after: '/renew' } }), '');
  t.match(why([], { env: { NODE: 'n-{instance}' } }), /^its variable NODE differs from instance to instance/);
  t.match(why([], { process: [{ name: 'w', command: ['w'], env: { BIND: '{address}:1' }, mustLive: true }] }), /^its variable BIND differs/);
  t.equal(why([], { env: { A: '{app} {release} {host}', B: '{other} instance {"instance":1}' } }), '', 'what is one in all instances may be cloned, other braces too');
});

t.test('a slow trial is tried again, a fast one not, and never for ever', async (t) => {
  const about = { state: 'template' as const, coldBootMs: 30, restoreMs: 40, trials: 1 };
  t.ok(tryAgain(about));
  t.notOk(tryAgain({ ...about, restoreMs: 20 }));
  t.notOk(tryAgain({ ...about, trials: 3 }));
  t.notOk(tryAgain({ ...about, state: 'keep' }));
});

t.test('orders say what the manifest says, and PORT is always true', async (t) => {
  const paths = dataPaths('/data');
  const boot = bootOrder(order, 'i-1', null, paths);
  t.strictSame(instanceEnv(order, 'i-1'), { COLOUR: 'red', PORT: '8080', EDGEPOINT_APP: 'shop', EDGEPOINT_RELEASE: '3', EDGEPOINT_INSTANCE: 'i-1' });
  t.equal(boot.artefactPath, `/data/artefacts/${'a'.repeat(64)}`);
  t.equal(boot.hostname, 'shop');
  t.equal(boot.ownNetwork, false);
  const kept = { ...order, manifest: { ...order.manifest, state: 'keep' as const } };
  t.match(restoreOrder(kept, 'i-1', { snapshotPath: '/s', address: '10.0.0.9', continues: true }, paths), { snapshotPath: '/s', address: '10.0.0.9', continues: true, ownNetwork: true });
  const volume = { name: 'data', path: '/data', sizeMegabytes: 8, shareable: false };
  const stored = { ...order, manifest: { ...order.manifest, volume: [volume] } };
  t.match(bootOrder(stored, 'i-1', null, paths).volumes, [{ imagePath: '/data/volumes/p.main.shop/data.ext4', sizeBytes: 8 * 1024 * 1024, mountPath: '/data' }]);
  t.ok(runsAlone(stored));
  t.notOk(runsAlone({ ...order, manifest: { ...order.manifest, volume: [{ ...volume, shareable: true }] } }));
  const filed = { ...order, manifest: { ...order.manifest, file: [{ path: '/run/me', text: '{app} {release} {host} {instance} {address} {peers} {other} {"app"}' }] } };
  const [file] = bootOrder(filed, 'i-1', null, paths).files ?? [];
  t.strictSame(file, { path: '/run/me', text: 'shop 3 shop.edge.test {instance} {address} {peers} {other} {"app"}' }, 'what only restored knows is left to it');
  t.equal(fillText(file?.text ?? '', { instance: 'i-1', address: '10.0.0.9', peers: '' }), 'shop 3 shop.edge.test i-1 10.0.0.9  {other} {"app"}');
  t.equal(fillText('{instance}', { instance: '{address}', address: 'x' }), '{address}', 'a value is not looked into');
  const named = { ...order, manifest: { ...order.manifest, env: { NAME: '{app}-{release} {instance} {x}' } } };
  t.equal(bootOrder(named, 'i-1', null, paths).env['NAME'], 'shop-3 {instance} {x}', 'a variable too');
  t.throws(() => bootOrder({ ...order, manifest: { ...order.manifest, offering: 'huge' } }, 'i-1', null, paths), { code: 'unknown-offering' });
});
