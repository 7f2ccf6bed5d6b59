import t from 'tap';
import { cpuFeaturesOf, type Fingerprint, whyNotRestorable } from '../../edgepoint/templates/fingerprint.ts';
import { fingerprint } from './ports.ts';

interface Row {
  readonly title: string;
  readonly here: Partial<Fingerprint>;
  readonly continues?: boolean;
  readonly why: RegExp | null;
}

const rows: readonly Row[] = [
  { title: 'the same', here: {}, why: null },
  { title: 'a processor that can do more', here: { cpuFeatures: ['avx', 'avx2', 'sse4_2'] }, why: null },
  { title: 'a processor that can do less', here: { cpuFeatures: ['sse4_2'] }, why: /processor features that are missing here: avx$/ },
  { title: 'another architecture', here: { architecture: 'arm64' }, why: /taken on x64 and this is arm64/ },
  { title: 'another build of the same kernel', here: { kernel: '6.12.48-cloud' }, why: null },
  { title: 'a newer kernel', here: { kernel: '6.18.0' }, why: null },
  { title: 'an older kernel, though its number sorts later as text', here: { kernel: '6.9.3' }, why: /Linux 6\.12\.1-amd64 and this is the older 6\.9\.3/ },
  { title: 'an older kernel of the series before', here: { kernel: '5.19.0' }, why: /the older 5\.19\.0/ },
  { title: 'a newer CRIU', here: { criu: '4.3' }, why: null },
  { title: 'an older CRIU', here: { criu: '4.2' }, why: /CRIU 4\.2\.1 and this is the older 4\.2/ },
  { title: 'another base root', here: { baseRoot: 'root-b' }, why: /another base root \(root-a\) than is here \(root-b\)/ },
  { title: 'another base root, and it keeps its state', here: { baseRoot: 'root-b' }, continues: true, why: /another base root/ },
  { title: 'another build of the box', here: { box: 'box-2' }, why: /a box of another build/ },
  { title: 'another build of the box, and it keeps its state', here: { box: 'box-2' }, continues: true, why: null },
];

for (const { title, here, continues = false, why } of rows) {
  t.test(title, async (t) => {
    const reasons = whyNotRestorable(fingerprint, { ...fingerprint, ...here }, { continues });
    t.equal(reasons.length, why === null ? 0 : 1, reasons.join('; '));
    if (why !== null) t.match(reasons[0], why);
  });
}

t.test('every reason is told', async (t) => {
  t.equal(whyNotRestorable(fingerprint, { architecture: 'arm64', cpuFeatures: [], kernel: '5.1', criu: '3.0', baseRoot: '', box: '' }, { continues: false }).length, 6);
});

t.test('of the flags of a processor those of instructions count', async (t) => {
  const cpuinfo = 'processor\t: 0\nflags\t\t: fpu sse4_2 hypervisor avx2 retpoline aes lm constant_tsc\nbugs\t\t: spectre_v1\n\nprocessor\t: 1\nflags\t\t: none\n';
  t.same(cpuFeaturesOf(cpuinfo), ['aes', 'avx2', 'lm', 'sse4_2']);
  t.same(cpuFeaturesOf(''), []);
});
