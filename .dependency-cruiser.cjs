/** Who may import whom: docs/ARCHITECTURE.md, "Layers". */
const part = (name) => `^${name}/`;
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'kit-imports-nothing-of-ours', severity: 'error', from: { path: '^kit/' }, to: { path: '^(host|edgepoint|conduit|metering|global-dispatcher|certificates|images|operator|bench|simulator|world)' } },
    { name: 'kit-is-pure', severity: 'error', from: { path: '^kit/' }, to: { dependencyTypes: ['core'] } },
    { name: 'host-imports-only-kit', severity: 'error', from: { path: '^host/' }, to: { path: '^(edgepoint|conduit|metering|global-dispatcher|certificates|images|operator|bench|simulator|world)' } },
    ...['edgepoint', 'conduit', 'metering', 'global-dispatcher', 'certificates', 'operator'].map((name) => ({
      name: `${name}-imports-no-other-part`,
      severity: 'error',
      from: { path: part(name) },
      to: { path: `^(edgepoint|conduit|metering|global-dispatcher|certificates|operator|images|bench|simulator)/`, pathNot: part(name) },
    })),
    {
      name: 'a-room-imports-no-other-room',
      severity: 'error',
      from: { path: '^edgepoint/(resources|box|templates|snapd|restored|perf|dispatcher|deploy|exchange|kernel-path|cron|canary|access|volumes|build)/' },
      to: { path: '^edgepoint/(resources|box|templates|snapd|restored|perf|dispatcher|deploy|exchange|kernel-path|cron|canary|access|volumes|build)/', pathNot: ['^edgepoint/$1/', '^edgepoint/box/'] },
    },
    {
      name: 'the-box-is-for-snapd-and-restored',
      severity: 'error',
      from: { path: '^edgepoint/(resources|templates|perf|dispatcher|deploy|exchange|kernel-path|cron|canary|access|volumes|build)/' },
      to: { path: '^edgepoint/box/' },
    },
    {
      name: 'decisions-are-pure',
      comment: 'a plan imports no adapter, no clock, no library that acts',
      severity: 'error',
      from: { path: '^(edgepoint/(resources/plan/|exchange/plan|cron/plan|canary/judge|build/plan|model/)|global-dispatcher/choose|metering/rating|certificates/plan)' },
      to: { path: '^(host/|node_modules/)|^(node|bun):', pathNot: 'node_modules/zod' },
    },
    { name: 'nothing-imports-world-but-tests-and-benches', severity: 'error', from: { pathNot: '^(test|bench)/|^world' }, to: { path: '^world' } },
    { name: 'no-dev-library-in-the-product', severity: 'error', from: { pathNot: '^(test|bench)/' }, to: { dependencyTypes: ['npm-dev'], pathNot: '(bun-types|@types)' } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(node_modules|dist|examples|\\.tap)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.tsx', '.js', '.json'], exportsFields: ['exports'], conditionNames: ['import', 'bun', 'node'] },
  },
};
