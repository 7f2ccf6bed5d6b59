import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';
import { bun, entry, startDispatcher } from './start.ts';

const run = promisify(execFile);

t.test('bad settings are named, with what to do', async (t) => {
  const dispatcher = startDispatcher(t, {});
  await dispatcher.kill('SIGKILL');
  const cases: [string[], RegExp][] = [
    [['--listen', '["nonsense"]'], /"nonsense" is no place to listen on[^]*Write an address and a port/],
    [['--listen', '["192.0.2.77:53"]'], /cannot listen on 192\.0\.2\.77 port 53[^]*address is one of this machine/],
    [['--listen', '[]', '--listenFds', '[77]'], /descriptor 77 is not open/],
    [['--user-locations', '{"10.0.0.1/8":{"latitude":1,"longitude":1}}'], /"10\.0\.0\.1\/8" is no network/],
    [['--zone-name', 'no..name'], /zoneName: "no\.\.name" is no domain name/],
    [['--location-file', '/nowhere'], /the location file \/nowhere cannot be used/],
    [['--ttl-seconds', 'soon'], /--ttl-seconds/],
    [['--nats-seed-file', '/nowhere'], /natsSeedFile: .*\/nowhere[^]*NKEY seed/],
  ];
  for (const [words, message] of cases) {
    const failed = await run(bun, [entry, '--config', dispatcher.configPath, ...words]).then(() => null, (thrown: { code: number; stderr: string }) => thrown);
    t.equal(failed?.code, 2, words.join(' '));
    t.match(failed?.stderr, message, words.join(' '));
  }
  const explain = (...words: string[]): Promise<string> => run(bun, [entry, 'explain', ...words]).then(({ stdout }) => stdout, (thrown: { code: number; stderr: string }) => `${thrown.code} ${thrown.stderr}`);
  t.match(await explain('shop.edge.test', '--from', '1.2.3', '--state', '/nowhere'), /^2 .*--from "1\.2\.3" is no address[^]*Usage/);
  t.match(await explain('shop.edge.test', '--from', '1.2.3.4'), /^2 .*needs --state FILE/);
  t.match(await explain('shop.edge.test', '--from', '1.2.3.4', '--state', '/nowhere'), /^2 .*\/nowhere is no dumped state[^]*cacheFile/);
  t.match(await explain('--help'), /Usage: .*explain NAME --from ADDRESS --state FILE/);
  const help = await run(bun, [entry, '--help']);
  t.match(help.stdout, /userLocations/);
});
