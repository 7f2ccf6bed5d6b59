// Runs tap on all tests (or on the files given), shows one line for each file and every failure in full, and writes
// `PASSED FAILED` to the file named first: the counts of tap's own summary, never better than its exit code says.
// Usage: node test/tap-run.mjs COUNTS_FILE [TEST FILES]
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const [countsFile, ...files] = process.argv.slice(2);
const deadlineMs = (process.env.LONG ? 240 : 35) * 60_000;

const tap = spawn('node_modules/.bin/tap', ['--reporter=tap', ...files], { stdio: ['ignore', 'pipe', 'inherit'] });
const timer = setTimeout(() => {
  console.log(`== the tests did not end within ${deadlineMs / 60_000} minutes and are stopped`);
  tap.kill('SIGTERM');
}, deadlineMs);

let detail = [];
let isFailing = false;
let summary = null;
for await (const line of createInterface({ input: tap.stdout })) {
  const result = /^(not ok|ok) \d+ - (\S+)(.*)$/.exec(line);
  if (result !== null) {
    isFailing = result[1] === 'not ok';
    if (isFailing) console.log(detail.join('\n'));
    console.log(isFailing ? line : `ok ${result[2]}${result[3]}`);
    detail = [];
  } else if (/^\s|^# Subtest/.test(line)) {
    // The details of a failed file follow its line; those of a test stand before it.
    if (isFailing && !line.startsWith('#') && line.startsWith('  ')) console.log(line);
    else detail.push(line);
    if (line === '  ...') isFailing = false;
  } else if (/^# \{ total: \d+/.test(line)) {
    summary = line;
    console.log(line);
  } else if (line.startsWith('# time=') || /bail out!/i.test(line)) {
    console.log(line);
  }
}
const exitCode = await new Promise((resolve) => tap.exitCode === null && tap.signalCode === null ? tap.once('exit', resolve) : resolve(tap.exitCode));
clearTimeout(timer);

const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(summary ?? '')?.[1] ?? 0);
const passed = count('pass');
// No summary, no test or a bad exit code is a failure, whatever else was counted.
const failed = Math.max(count('fail'), exitCode !== 0 || summary === null || passed === 0 ? 1 : 0);
if (count('skip') > 0 || count('todo') > 0) console.log(`== skipped: ${count('skip')}, to do: ${count('todo')}`);
writeFileSync(countsFile, `${passed} ${failed}\n`);
