// Exits 0 when node_modules holds what package-lock.json asks for, else says what is missing and exits 1.
// Plain JavaScript without packages: it runs before any is installed. npm writes node_modules/.package-lock.json as its last
// act, so an installation that was cut off has none.
import { readFileSync } from 'node:fs';

function readPackages(path) {
  return JSON.parse(readFileSync(path, 'utf8')).packages ?? {};
}

function missingPackage() {
  const wanted = readPackages('package-lock.json');
  const installed = readPackages('node_modules/.package-lock.json');
  for (const [path, entry] of Object.entries(wanted)) {
    // The root itself, and packages for other machines, are never installed.
    if (path === '' || entry.optional || entry.devOptional || entry.link) continue;
    if (installed[path]?.version !== entry.version) return `${path} ${entry.version}`;
  }
  return null;
}

try {
  const missing = missingPackage();
  if (missing === null) process.exit(0);
  process.stderr.write(`edgepoint: not installed: ${missing}\n`);
} catch {
  process.stderr.write('edgepoint: no npm packages are installed yet\n');
}
process.exit(1);
