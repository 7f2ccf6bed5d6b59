import { createHash } from 'node:crypto';
import { readFileSync, mkdirSync, rmSync, writeFileSync, mkdtempSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Test } from 'tap';

/** A registry of npm packages on this machine, which tells what it was asked for. */
export interface PackageRegistry {
  readonly url: string;
  /** Paths, in order. */
  readonly asked: string[];
  /** Makes a package of these files; it answers from now on, as its only version. */
  publish(name: string, version: string, files: Readonly<Record<string, string>>, scripts?: Readonly<Record<string, string>>): void;
  /** The text of a package-lock.json of an app that depends on these. */
  lock(app: string, names: readonly string[]): string;
}

interface Published {
  readonly version: string;
  readonly tarball: Buffer;
  readonly described: Readonly<Record<string, unknown>>;
}

/** Speaks what npm asks of one: a packument and tarballs (docs of the npm registry, "package metadata"). Closed with the test. */
export async function startPackageRegistry(t: Test): Promise<PackageRegistry> {
  const packages = new Map<string, Published>();
  const asked: string[] = [];
  const integrity = ({ tarball }: Published): string => `sha512-${createHash('sha512').update(tarball).digest('base64')}`;
  const tarballUrl = (name: string, { version }: Published): string => `https://registry.npmjs.org/${name}/-/${name}-${version}.tgz`;
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? '');
    asked.push(path);
    const [, name = '', ...rest] = path.split('/');
    const found = packages.get(name);
    if (found === undefined) return response.writeHead(404).end('{}');
    if (rest.length > 0) return response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(found.tarball);
    // npm puts the registry it was told in place of this host, which is the public one's.
    const dist = { tarball: tarballUrl(name, found), integrity: integrity(found) };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ name, 'dist-tags': { latest: found.version }, versions: { [found.version]: { ...found.described, dist } } }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => void server.close());
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    asked,
    publish(name, version, files, scripts = {}) {
      const folder = mkdtempSync(join(tmpdir(), 'edgepoint-package-'));
      const described = { name, version, main: 'index.js', ...(Object.keys(scripts).length > 0 ? { scripts, hasInstallScript: true } : {}) };
      for (const [path, text] of Object.entries({ 'package.json': JSON.stringify(described), ...files })) {
        mkdirSync(dirname(join(folder, 'package', path)), { recursive: true });
        writeFileSync(join(folder, 'package', path), text);
      }
      execFileSync('tar', ['-czf', join(folder, 'it.tgz'), '-C', folder, 'package']);
      packages.set(name, { version, described, tarball: readFileSync(join(folder, 'it.tgz')) });
      rmSync(folder, { recursive: true, force: true });
    },
    lock(app, names) {
      const entries = names.map((name) => [name, packages.get(name)] as const).flatMap(([name, one]) => (one === undefined ? [] : [[name, one] as const]));
      const dependencies = Object.fromEntries(entries.map(([name, { version }]) => [name, version]));
      const installed = Object.fromEntries(entries.map(([name, one]) => [`node_modules/${name}`, { version: one.version, resolved: tarballUrl(name, one), integrity: integrity(one), ...(one.described['hasInstallScript'] === true ? { hasInstallScript: true } : {}) }]));
      return JSON.stringify({ name: app, version: '1.0.0', lockfileVersion: 3, requires: true, packages: { '': { name: app, version: '1.0.0', dependencies }, ...installed } });
    },
  };
}
