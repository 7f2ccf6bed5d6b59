import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatMs } from '../../kit/units.ts';
import type { EndUser } from './end-user.ts';
import type { Telling } from './telling.ts';

const packageName = 'edgepoint-greeting';

/** A real npm client publishes a package to the registry and installs it elsewhere; `sleepAgain` waits until the registry sleeps. */
export async function publishAndInstall(telling: Telling, user: EndUser, sleepAgain: () => Promise<void>): Promise<void> {
  const { world, say, check } = telling;
  const { dataFolder, zoneName } = world.describe();
  const registry = `http://verdaccio.${zoneName}/`;
  const home = join(dataFolder, 'end-users', user.name);
  const source = join(home, 'source');
  const project = join(home, 'project');
  mkdirSync(source, { recursive: true });
  mkdirSync(project, { recursive: true });
  writeFileSync(join(source, 'package.json'), JSON.stringify({ name: packageName, version: '1.0.0', main: 'index.js' }));
  writeFileSync(join(source, 'index.js'), "module.exports = 'hello from the edge';\n");
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'project', version: '1.0.0', private: true }));
  /* npm refuses to publish without a token, even where the registry lets everybody. */
  writeFileSync(join(home, '.npmrc'), `registry=${registry}\n//verdaccio.${zoneName}/:_authToken=anybody\naudit=false\nfund=false\nupdate-notifier=false\n`);
  const npm = async (argv: readonly string[]): Promise<{ exitCode: number; tookMs: number; said: string }> => {
    const startedMs = performance.now();
    const ran = await user.run(['npm', ...argv], { npm_config_userconfig: join(home, '.npmrc'), npm_config_cache: join(home, 'npm-cache') });
    return { exitCode: ran.exitCode, tookMs: performance.now() - startedMs, said: `${ran.stdout}${ran.stderr}`.trim().split('\n').slice(-3).join(' | ') };
  };
  const published = await npm(['publish', source]);
  say(`  $ npm publish   (${formatMs(published.tookMs)})`);
  check(published.exitCode === 0, `npm published ${packageName}${published.exitCode === 0 ? '' : `: ${published.said}`}`);
  await sleepAgain();
  const installed = await npm(['install', '--prefix', project, packageName]);
  say(`  $ npm install ${packageName}   (${formatMs(installed.tookMs)}, its first request was held while the registry woke)`);
  const used = await user.run(['node', '-p', `require(${JSON.stringify(join(project, 'node_modules', packageName))})`]);
  check(installed.exitCode === 0 && used.stdout.trim() === 'hello from the edge', `npm installed it and the program runs${installed.exitCode === 0 ? '' : `: ${installed.said}`}`);
}
