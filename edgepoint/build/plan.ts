import { Failure } from '../../kit/errors.ts';
import { formatBytes } from '../../kit/units.ts';
import type { BuildOrder } from '../../kit/wire/check.ts';
import type { Offering } from '../model/offering.ts';

/** A program to run in /app of a build's box. */
export interface BuildStep {
  /** `source` puts the source into /app; `install` makes what the dependencies are; `command` is the provider's own; `tidy` takes away what only that needed. */
  readonly kind: 'source' | 'install' | 'command' | 'tidy';
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export interface BuildPlan {
  readonly steps: readonly BuildStep[];
  /** What `install` makes: names in /app, kept for the next build of the same dependencies. Empty: nothing is. */
  readonly produces: readonly string[];
}

/** Where the tools of builds lie in their box, and the source before it is in /app: an instance may not write to what its artefact holds. */
export const buildToolsPath = '/edgepoint-build';
export const sourcePath = `${buildToolsPath}/source`;
/** `registry`: where packages come from, as the operator says. Downloads go behind /app, so that they are no part of what is built. */
const npmSettings = (registry: string): Record<string, string> => ({
  npm_config_registry: registry,
  npm_config_cache: '/tmp/npm',
  npm_config_audit: 'false',
  npm_config_fund: 'false',
  npm_config_update_notifier: 'false',
});
const path = `${buildToolsPath}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;

/** What is run for a source folder, in order. */
export function planBuild(build: BuildOrder, registry: string): BuildPlan {
  const own: BuildStep[] = build.command === undefined ? [] : [{ kind: 'command', argv: build.command, env: { PATH: `/app/node_modules/.bin:${path}`, CI: 'true', ...npmSettings(registry) } }];
  const source: BuildStep = { kind: 'source', argv: ['cp', '-r', '-d', '--preserve=mode,timestamps', `${sourcePath}/.`, '/app'], env: {} };
  if (build.install === 'none') return { steps: [source, ...own], produces: [] };
  const env = { PATH: path, ...npmSettings(registry) };
  // A command may need the tools that package.json calls devDependencies; without one nobody does.
  const install: BuildStep = { kind: 'install', argv: ['npm', 'ci', ...(own.length > 0 ? ['--include=dev'] : ['--omit=dev'])], env };
  const tidy: BuildStep[] = own.length > 0 ? [{ kind: 'tidy', argv: ['npm', 'prune', '--omit=dev', '--ignore-scripts'], env }] : [];
  return { steps: [source, install, ...own, ...tidy], produces: ['node_modules'] };
}

/** What dependencies were made from: the text under which they are kept is a digest of this. */
export interface DependencyFacts {
  /** Of the tools and of what runs them in the box. */
  readonly tools: string;
  readonly runtime: string;
  readonly install: BuildStep;
  /** Of the whole source. */
  readonly sourceDigest: string;
  /** Files at the root of the source, by name; null when there is none. */
  readonly files: Readonly<Record<string, string | null>>;
}

/** The files of a source that say what its dependencies are. */
export const dependencyFiles: Readonly<Record<BuildOrder['install'], readonly string[]>> = {
  npm: ['package.json', 'package-lock.json', 'npm-shrinkwrap.json', '.npmrc'],
  none: [],
};

/** Of package.json: what `npm ci` heeds, and nothing that changes with every release of the app. */
const dependencyKeys = ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies', 'peerDependenciesMeta', 'bundleDependencies', 'overrides', 'engines', 'os', 'cpu'];
/** Scripts of the app itself that npm runs at an install: they may read anything of the source. */
const lifecycle = ['preinstall', 'install', 'postinstall', 'prepublish', 'preprepare', 'prepare', 'postprepare'];

/** A text that differs whenever the dependencies may; the whole source stands in it where they may depend on any of its files. */
export function dependencyText(facts: DependencyFacts): string {
  const described = parseObject(facts.files['package.json'] ?? '');
  const lock = facts.files['package-lock.json'] ?? facts.files['npm-shrinkwrap.json'] ?? '';
  const scripts = Object.keys(asObject(described['scripts']));
  const needsSource =
    scripts.some((name) => lifecycle.includes(name)) || described['workspaces'] !== undefined || /"(link|resolved)":\s*(true|"file:)/.test(lock);
  const dependencies = Object.fromEntries(dependencyKeys.map((key) => [key, described[key] ?? null]));
  // The version of the app stands in its lock file, too.
  const lockText = lock === '' ? '' : JSON.stringify(withoutOwnVersion(parseObject(lock)));
  return JSON.stringify([1, facts.tools, facts.runtime, facts.install.argv, needsSource ? facts.sourceDigest : '', dependencies, lockText, facts.files['.npmrc'] ?? '']);
}

function withoutOwnVersion(lock: Record<string, unknown>): unknown {
  const { version: _, name: __, ...rest } = lock;
  const packages = asObject(rest['packages']);
  const { version: ___, name: ____, ...root } = asObject(packages['']);
  return { ...rest, packages: { ...packages, '': root } };
}

const asObject = (value: unknown): Record<string, unknown> => (typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {});

function parseObject(text: string): Record<string, unknown> {
  try {
    return asObject(JSON.parse(text));
  } catch {
    // What is no JSON, npm itself will complain of.
    return {};
  }
}

/** How a step has ended, and what the kernel has refused its box so far. */
export interface StepEnd {
  readonly status: number;
  readonly signal: string;
  /** Why it could not be started; empty when it was. */
  readonly error: string;
  readonly freeBytes: number;
  readonly freeFiles: number;
  /** Of the box: processes killed for want of memory, and forks refused. */
  readonly memoryKills: number;
  readonly forksRefused: number;
  /** The end of what it wrote. */
  readonly lastWords: string;
}

const fullBelowBytes = 1024 * 1024;

/** Why a step's end fails the build; null when it does not. */
export function whyFailed(step: BuildStep, end: StepEnd, offering: Offering): Failure | null {
  if (end.status === 0 && end.signal === '' && end.error === '') return null;
  const what = step.argv.join(' ');
  const words = end.lastWords.trim() === '' ? 'It wrote nothing.' : `Its last words:\n${end.lastWords.trim()}`;
  const bigger = 'Set a bigger `offering` in [build], or leave out what it does not need.';
  if (end.freeBytes < fullBelowBytes || end.freeFiles === 0 || /ENOSPC|No space left on device/.test(end.lastWords)) {
    return new Failure('build-disk-full', `${what} filled the disk of the build (${formatBytes(offering.diskBytes)} of the offering ${offering.name})`, { remedy: `${bigger} ${words}` });
  }
  if (end.memoryKills > 0) {
    return new Failure('build-memory', `${what} wanted more memory than the build has (${formatBytes(offering.memoryBytes)} of the offering ${offering.name})`, { remedy: `${bigger} ${words}` });
  }
  if (end.forksRefused > 0) {
    return new Failure('build-processes', `${what} wanted more processes than the build has (${offering.pidsMax} of the offering ${offering.name})`, { remedy: `${bigger} ${words}` });
  }
  if (end.error !== '') return new Failure('build-failed', `${what} could not be run: ${end.error}`, { remedy: `Correct \`command\` in [build]: it is looked up in node_modules/.bin and on the PATH.` });
  const how = end.signal === '' ? `exit code ${end.status}` : end.signal;
  return new Failure('build-failed', `${what} ended with ${how}`, { remedy: `${remedies[step.kind]} ${words}` });
}

const remedies: Readonly<Record<BuildStep['kind'], string>> = {
  source: 'Tell the operator what this says.',
  install: 'See whether it runs in a fresh copy of the folder, and whether the lock file is up to date.',
  command: 'See whether it runs in a fresh copy of the folder.',
  tidy: 'Tell the operator what this says.',
};

export function tookTooLong(step: BuildStep, timeoutSeconds: number, lastWords: string): Failure {
  const words = lastWords.trim() === '' ? 'It wrote nothing.' : `Its last words:\n${lastWords.trim()}`;
  return new Failure('build-timeout', `${step.argv.join(' ')} was ended after ${timeoutSeconds} s, the time this build may take`, {
    remedy: `See what it waits for, or raise \`timeoutSeconds\` in [build] (at most 1800). ${words}`,
  });
}
