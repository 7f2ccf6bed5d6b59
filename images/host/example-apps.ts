import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { toolsFolder } from '../../host/tools.ts';
import { retryCommand } from './command.ts';
import type { Step } from './step.ts';

const source = join(import.meta.dirname, '../../examples');
const placed = join(toolsFolder, 'examples');

/** The folder of an example app with its real dependencies installed, ready to deploy. */
export function exampleApp(name: string): string {
  return join(placed, name);
}

/** Those that the platform builds are deployed as they are. */
function names(): string[] {
  return readdirSync(source, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() && !isBuilt(entry.name) ? [entry.name] : []));
}

function isBuilt(name: string): boolean {
  const manifest = join(source, name, 'edgepoint.toml');
  return existsSync(manifest) && /^\[build\]/m.test(readFileSync(manifest, 'utf8'));
}

/** Every file of the examples but installed dependencies, hashed: another text means another install. */
function recipe(): string {
  const hash = createHash('sha256');
  for (const path of readdirSync(source, { recursive: true, encoding: 'utf8' }).toSorted()) {
    const [name = '', ...below] = path.split('/');
    if (below.includes('node_modules') || isBuilt(name)) continue;
    hash.update(path);
    if (/\.[a-z]+$/.test(path)) hash.update(readFileSync(join(source, path)));
  }
  return hash.digest('hex');
}

/** Copies the examples out of the clone and installs what they depend on from the npm registry. */
export const exampleApps: Step = {
  name: 'example apps',
  recipe: recipe(),
  takeOver: false,
  missing: async () => names().map((name) => (existsSync(exampleApp(name)) ? null : `${name} is not installed`)).find((why) => why !== null) ?? null,
  make: async (say) => {
    const aside = `${placed}.new`;
    rmSync(aside, { recursive: true, force: true });
    cpSync(source, aside, { recursive: true, filter: (path) => !path.includes('/node_modules') });
    for (const name of names()) {
      if (!existsSync(join(aside, name, 'package.json'))) continue;
      say(`npm install for ${name}`);
      const verb = existsSync(join(aside, name, 'package-lock.json')) ? 'ci' : 'install';
      await retryCommand(
        ['npm', verb, '--prefix', join(aside, name), '--omit=dev', '--no-audit', '--no-fund', '--ignore-scripts'],
        { code: 'example-apps', remedy: 'The examples take their dependencies from the npm registry; check that it can be reached, then try again.', say },
      );
    }
    rmSync(placed, { recursive: true, force: true });
    renameSync(aside, placed);
    return `installed ${names().join(', ')}`;
  },
};
