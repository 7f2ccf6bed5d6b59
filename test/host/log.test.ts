import t from 'tap';
import { execFileSync, spawnSync } from 'node:child_process';
import { hidden, hideSecretText, withoutSecrets } from '../../host/log.ts';
import { newBusUser } from '../../host/credentials.ts';
import { Failure } from '../../kit/errors.ts';

t.test('keys that name a secret are hidden, keys that name where it is are not', async (t) => {
  for (const key of ['seed', 'natsSeed', 'token', 'authToken', 'auth_token', 'Authorization', 'secret', 'clientSecret', 'password', 'cookie', 'set-cookie', 'apiKey', 'api_key']) {
    t.strictSame(withoutSecrets({ deep: [{ [key]: 'x' }] }), { deep: [{ [key]: hidden }] }, key);
  }
  for (const key of ['natsSeedFile', 'tokenCount', 'seedling', 'key', 'name', 'tokenId']) t.strictSame(withoutSecrets({ [key]: 'x' }), { [key]: 'x' }, key);
});

t.test('secrets are hidden wherever they stand in a text', async (t) => {
  const { seed } = newBusUser('operator', null);
  for (const text of [`the seed ${seed} is bad`, 'Authorization: Bearer abcdefgh12345678', 'nats://user:hunter22@host:4222', 'libsql://x.example/db?authToken=abc.def']) {
    const said = hideSecretText(text);
    t.match(said, hidden);
    t.notMatch(said, /hunter22|abcdefgh12345678|abc\.def|SU[A-Z0-9]{20}/, text);
  }
  const error = new Failure('bad', `cannot use ${seed}`, { cause: new Error(`because ${seed}`) });
  t.notMatch(JSON.stringify(withoutSecrets({ error })), seed);
  t.equal(hideSecretText('plain words stay'), 'plain words stay');
});

t.test('what is too deep, too long or cyclic is bounded', async (t) => {
  const ring: Record<string, unknown> = {};
  ring['self'] = ring;
  t.doesNotThrow(() => JSON.stringify(withoutSecrets(ring)));
  t.ok(JSON.stringify(withoutSecrets({ text: 'x'.repeat(1e6), list: Array(1e5).fill(1), bytes: new Uint8Array(1e6), big: 1n })).length < 20_000);
});

t.test('one JSON line for each entry, on Node and on Bun', async (t) => {
  const program = `
    const { openLog } = await import('./host/log.ts');
    const log = openLog('tester').with({ part: 'a', token: 'sesame1' });
    log.debug('not this');
    log.info('two\\nlines', { secret: 'sesame2', figure: 3 });
    log.error('bad', { error: new Error('why') });`;
  const run = (command: string, args: string[], env: Record<string, string> = {}): Record<string, unknown>[] =>
    spawnSync(command, [...args, program], { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '', ...env } })
      .stderr.trim()
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  for (const [command, args] of [
    ['node', ['--import=tsx', '--input-type=module', '-e']],
    ['node_modules/.bin/bun', ['-e']],
  ] as const) {
    const [first, second, ...more] = run(command, [...args]);
    t.match(first, { level: 'info', daemon: 'tester', part: 'a', token: hidden, secret: hidden, figure: 3, text: 'two\nlines' }, command);
    t.match(second, { level: 'error', error: { code: 'unexpected', message: 'why' } });
    t.equal(more.length, 0);
    t.equal(run(command, [...args], { EDGEPOINT_LOG_LEVEL: 'debug' }).length, 3);
    t.equal(run(command, [...args], { EDGEPOINT_LOG_LEVEL: 'silent' }).length, 0);
  }
  t.match(execFileSync('node_modules/.bin/bun', ['--version'], { encoding: 'utf8' }), /^\d/);
});
