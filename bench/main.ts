import { readdirSync } from 'node:fs';
import { setUp } from '../images/host/set-up.ts';
import { printReport, type Report } from './report.ts';

/** A benchmark is a file that exports `run`; these files are the frame. */
const frame = new Set(['main', 'statistics', 'interleave', 'report', 'engine', 'runc', 'podman', 'peer-network', 'small-app', 'tiny', 'child-world', 'crowd', 'local-dispatcher', 'proxies', 'sleepers', 'object-store']);
const names = readdirSync(import.meta.dir)
  .flatMap((file) => (file.endsWith('.ts') ? [file.slice(0, -3)] : []))
  .filter((name) => !frame.has(name));

const [name = ''] = process.argv.slice(2).filter((word) => !word.startsWith('-'));
const quick = process.argv.includes('--quick');
if (!names.includes(name)) {
  console.error(`usage: npm run bench -- NAME [--quick]\nNAME is one of: ${names.join(', ')}`);
  process.exit(2);
}
await setUp((line) => console.error(line), { forBenches: true });
const { run } = (await import(`./${name}.ts`)) as { run: (options: { quick: boolean }) => Promise<Report> };
printReport(await run({ quick }));
process.exit(0);
