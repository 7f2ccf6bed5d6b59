import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openBrowser } from '../certificates/browser.ts';
import { openCertifiedWorld } from '../certificates/certified-world.ts';
import { stepsOf } from './page.ts';
import { settleReader } from './reader.ts';

t.setTimeout(170_000);

t.test('a newcomer follows the README, and a browser opens what it ends with', { timeout: 170_000 }, async (t) => {
  const readme = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8');
  const { world, root } = await openCertifiedWorld(t, ['--conduit-address', '0.0.0.0']);
  const token = await world.held.call<string>('newProvider', { name: 'ada' });
  const reader = await settleReader(t, world, 'newcomer', { folderName: 'hello', root });
  const steps = stepsOf(readme, { 'http://CONDUIT': reader.conduitUrl, TOKEN: token });
  t.same(steps.flatMap((step) => (step.kind === 'command' ? [step.command.split(' ').slice(0, 2).join(' ')] : [])), ['conduit login', 'conduit init', 'conduit deploy'], 'three commands');
  const deployed = await reader.follow(t, steps);
  const url = /ready: (\S+)/.exec(deployed)?.[1] ?? '';
  t.match(url, /^https:\/\//, 'it ends with an address of HTTPS');

  const page = await (await openBrowser(t, { root, program: reader.chromium })).newPage();
  const answer = await page.goto(url);
  t.equal(answer?.status(), 200);
  t.match(await answer?.securityDetails(), { protocol: 'TLS 1.3', issuer: /^Pebble/, subjectName: 'edge.test' });
  t.equal(await page.textContent('h1'), 'Hello from the edge');
  const pictures = process.env['SCREENSHOTS'] ?? '';
  if (pictures !== '') {
    mkdirSync(pictures, { recursive: true });
    await page.screenshot({ path: join(pictures, 'newcomer.png') });
  }
  const stranger = await (await openBrowser(t, { root: null, program: reader.chromium })).newPage();
  await t.rejects(stranger.goto(url), /ERR_CERT_AUTHORITY_INVALID/, 'nobody has told the browser to look away');
  await page.close();
  await world.allHealthy();
});
