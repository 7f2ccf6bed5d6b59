import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

interface Locked {
  readonly version?: string;
  readonly resolved?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const path = join(import.meta.dirname, '../../package-lock.json');
const { packages } = JSON.parse(readFileSync(path, 'utf8')) as { packages: Readonly<Record<string, Locked>> };

/** The nearest node_modules above a package wins, as for require(). */
function isLocked(name: string, from: string): boolean {
  for (let place = from; ; place = place.slice(0, Math.max(0, place.lastIndexOf('node_modules/') - 1))) {
    if (packages[place === '' ? `node_modules/${name}` : `${place}/node_modules/${name}`] !== undefined) return true;
    if (place === '') return false;
  }
}

t.test('a fresh clone can be installed: every dependency is locked, those for other machines included', async (t) => {
  for (const [place, locked] of Object.entries(packages)) {
    for (const name of Object.keys({ ...locked.dependencies, ...locked.optionalDependencies })) {
      if (!isLocked(name, place)) t.fail(`${place || 'the project'} needs ${name}, which is not locked: npm ci would refuse`);
    }
  }
  t.ok(Object.keys(packages).length > 100);
});

t.test('the lock file names no place packages came from', async (t) => {
  t.same(Object.entries(packages).filter(([, locked]) => locked.resolved !== undefined).map(([place]) => place), []);
});
