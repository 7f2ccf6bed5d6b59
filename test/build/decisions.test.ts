import t from 'tap';
import { manifestText } from '../../conduit/cli/init.ts';
import { recogniseBuild } from '../../conduit/cli/recognise.ts';
import type { Recognised } from '../../conduit/cli/recognise.ts';
import { readManifest } from '../../conduit/manifest/read.ts';
import { planCache } from '../../edgepoint/build/plan-cache.ts';
import { dependencyText, planBuild, tookTooLong, whyFailed } from '../../edgepoint/build/plan.ts';
import type { DependencyFacts, StepEnd } from '../../edgepoint/build/plan.ts';
import { findOffering } from '../../edgepoint/model/offering.ts';
import type { BuildWish } from '../../kit/wire/manifest.ts';
import type { BuildOrder } from '../../kit/wire/check.ts';

const order: BuildOrder = { install: 'npm', timeoutSeconds: 600, offering: 'medium' };
const registry = 'https://registry.example/';

t.test('what a build runs', async (t) => {
  const kinds = (build: BuildOrder): string[] => planBuild(build, registry).steps.map(({ kind, argv }) => `${kind}: ${argv.join(' ')}`).slice(1);
  t.same(kinds(order), ['install: npm ci --omit=dev']);
  t.same(kinds({ ...order, command: ['npm', 'run', 'build'] }), ['install: npm ci --include=dev', 'command: npm run build', 'tidy: npm prune --omit=dev --ignore-scripts'], 'a command may need what is not released');
  t.same(kinds({ ...order, install: 'none', command: ['make'] }), ['command: make']);
  t.equal(planBuild(order, registry).steps[1]?.env['npm_config_registry'], registry);
});

t.test('which changes make other dependencies', async (t) => {
  const lock = { name: 'shop', version: '1.0.0', lockfileVersion: 3, packages: { '': { name: 'shop', version: '1.0.0', dependencies: { ms: '2.0.0' } }, 'node_modules/ms': { version: '2.0.0' } } };
  const described = { name: 'shop', version: '1.0.0', scripts: { start: 'node .' }, dependencies: { ms: '2.0.0' } };
  const facts = (more: { source?: string; described?: object; lock?: object; npmrc?: string; tools?: string; runtime?: string } = {}): DependencyFacts => ({
    tools: more.tools ?? 'tools-1',
    runtime: more.runtime ?? 'v20.20.2 x64',
    install: planBuild(order, registry).steps[1] ?? { kind: 'install', argv: [], env: {} },
    sourceDigest: more.source ?? 'one',
    files: { 'package.json': JSON.stringify({ ...described, ...more.described }), 'package-lock.json': JSON.stringify({ ...lock, ...more.lock }), 'npm-shrinkwrap.json': null, '.npmrc': more.npmrc ?? null },
  });
  const same = (more: Parameters<typeof facts>[0], less: Parameters<typeof facts>[0] = {}): boolean => dependencyText(facts(more)) === dependencyText(facts(less));
  t.ok(same({ source: 'two' }), 'another source');
  t.ok(same({ source: 'two', described: { version: '2.0.0', scripts: { start: 'node other.js', build: 'tsc' } }, lock: { version: '2.0.0', packages: { ...lock.packages, '': { ...lock.packages[''], version: '2.0.0' } } } }), 'another version of the app, other scripts');
  t.notOk(same({ described: { dependencies: { ms: '2.0.1' } } }));
  t.notOk(same({ described: { overrides: { ms: '2.0.1' } } }));
  t.notOk(same({ lock: { packages: { ...lock.packages, 'node_modules/ms': { version: '2.0.1' } } } }));
  t.notOk(same({ npmrc: 'legacy-peer-deps=true' }));
  t.notOk(same({ tools: 'tools-2' }));
  t.notOk(same({ runtime: 'v24.1.0 x64' }), 'what was compiled for another Node does not run');
  // Where an install reads the app's own files, each source is its own.
  for (const reads of [{ described: { scripts: { postinstall: 'node patch.js' } } }, { described: { workspaces: ['parts/*'] } }, { lock: { packages: { ...lock.packages, 'node_modules/part': { resolved: 'part', link: true } } } }, { lock: { packages: { ...lock.packages, 'node_modules/part': { resolved: 'file:part.tgz' } } } }]) {
    t.notOk(same({ ...reads, source: 'two' }, { ...reads, source: 'one' }), JSON.stringify(reads));
    t.ok(same({ ...reads }, { ...reads }));
  }
});

t.test('why a build failed', async (t) => {
  const medium = findOffering('medium');
  const step = { kind: 'install', argv: ['npm', 'ci'], env: {} } as const;
  if (medium === undefined) return t.fail('there is no offering medium');
  const ended: StepEnd = { status: 0, signal: '', error: '', freeBytes: 100e6, freeFiles: 1000, memoryKills: 0, forksRefused: 0, lastWords: '' };
  const codeOf = (more: Partial<StepEnd>): string => whyFailed(step, { ...ended, ...more }, medium)?.code ?? 'none';
  t.equal(codeOf({}), 'none');
  t.equal(codeOf({ forksRefused: 3, memoryKills: 1, freeBytes: 0 }), 'none', 'one that succeeds has succeeded');
  t.equal(codeOf({ status: 1 }), 'build-failed');
  t.equal(codeOf({ signal: 'SIGSEGV' }), 'build-failed');
  t.equal(codeOf({ status: 127, error: 'spawn npm ENOENT' }), 'build-failed');
  t.equal(codeOf({ status: 1, freeBytes: 4096 }), 'build-disk-full');
  t.equal(codeOf({ status: 1, freeFiles: 0 }), 'build-disk-full');
  t.equal(codeOf({ status: 228, lastWords: 'npm error code ENOSPC' }), 'build-disk-full', 'npm has taken away again what it wrote');
  t.equal(codeOf({ signal: 'SIGKILL', memoryKills: 1 }), 'build-memory');
  t.equal(codeOf({ status: 1, forksRefused: 1 }), 'build-processes');
  const failure = whyFailed(step, { ...ended, status: 1, lastWords: 'npm error 404' }, medium);
  t.match(failure, { message: 'npm ci ended with exit code 1', remedy: /Its last words:\nnpm error 404$/ });
  t.match(tookTooLong(step, 600, ''), { code: 'build-timeout', message: /npm ci was ended after 600 s/, remedy: /It wrote nothing/ });
});

t.test('which folders are built', async (t) => {
  const locked = JSON.stringify({ packages: { '': {}, 'node_modules/ms': {} } });
  const empty = JSON.stringify({ packages: { '': {} } });
  const onlyDev = JSON.stringify({ packages: { '': {}, 'node_modules/tap': { dev: true } } });
  const wish = (more: Partial<BuildWish> = {}): BuildWish => ({ timeoutSeconds: 600, offering: 'medium', ...more });
  const look = (files: Readonly<Record<string, string>>, manifest: Parameters<typeof recogniseBuild>[0] = {}): Promise<Recognised | null> =>
    recogniseBuild(manifest, { has: (name) => Promise.resolve(name in files), read: (name) => Promise.resolve(files[name] ?? null) });
  t.match(await look({ 'package-lock.json': locked }), { install: 'npm', without: [] });
  t.match(await look({ 'npm-shrinkwrap.json': locked }), { install: 'npm' });
  t.equal(await look({ 'package-lock.json': locked, node_modules: '' }), null, 'it brings along what it needs');
  t.equal(await look({ 'package-lock.json': empty }), null, 'it needs nothing');
  t.equal(await look({ 'package-lock.json': onlyDev }), null, 'it needs nothing to run');
  t.equal(await look({ 'package.json': '{}' }), null, 'nothing says which versions');
  t.equal(await look({ 'package-lock.json': locked }, { image: { layers: [] } }), null);
  t.match(await look({ 'package-lock.json': locked, node_modules: '' }, { build: wish() }), { install: 'npm', without: ['node_modules'] }, 'with [build] it is built whatever is there');
  t.match(await look({ 'index.html': '' }, { build: wish({ command: ['make'] }) }), { install: 'none', without: [] });
  t.match(await look({ 'package-lock.json': locked }, { build: wish({ install: 'none' }) }), { install: 'none' });
});

t.test('what conduit init writes of a build can be read, and so can what is uncommented in it', async (t) => {
  const text = manifestText({ app: 'shop', command: ['node', 'server.js'], port: 3000, install: 'npm', from: { command: '', port: '' } });
  t.match(readManifest(text), { ok: true, manifest: { build: { install: 'npm' } } });
  t.match(readManifest(text.replace('# state =', 'state =').replace('# offering', 'offering').replace('# command = ["npm"', 'command = ["npm"')), { ok: true, manifest: { state: 'template', offering: 'small', build: { command: ['npm', 'run', 'build'] } } });
});

t.test('which dependencies leave the cache', async (t) => {
  const file = (provider: string, bytes: number, usedMs: number) => ({ provider, path: `${provider}/${usedMs}`, bytes, usedMs });
  const limits = { bytesMax: 100, providerBytesMax: 50 };
  const leave = (files: Parameters<typeof planCache>[0]): string[] => planCache(files, limits).map(({ path }) => path);
  t.same(leave([file('a', 20, 1), file('a', 20, 2), file('b', 50, 3)]), []);
  t.same(leave([file('a', 20, 1), file('a', 20, 2), file('a', 20, 3)]), ['a/1'], 'a provider has its part');
  t.same(leave([file('a', 40, 1), file('b', 40, 2), file('c', 40, 3)]), ['a/1'], 'what was used longest ago leaves');
  t.same(leave([file('a', 60, 1)]), ['a/1'], 'one that is too big for its provider is not kept');
});
