import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { until, type Engine } from '../restored/engine.ts';
import { runtimesRoot } from './application.ts';

/** An address nobody has (RFC 5737, TEST-NET-3): to instances the database is somewhere in the internet. */
const address = '203.0.113.5';
const port = 6379;

export interface OutsideDatabase {
  /** As programs are told of it. */
  readonly place: string;
  /** What redis-cli prints for a command. */
  command(...words: string[]): string;
}

/** A Redis in a network namespace of its own, which instances reach through their edgepoint as they reach the internet. Goes with the engine. */
export async function openOutsideDatabase(engine: Engine): Promise<OutsideDatabase> {
  const root = runtimesRoot();
  const wait = 'ip link set lo up && echo ready && read -r go && exec chroot "$@"';
  const server = ['redis-server', '--port', `${port}`, '--bind', '0.0.0.0', '--protected-mode', 'no', '--save', '', '--dir', '/tmp'];
  const child = engine.place.spawn(['unshare', '--net', 'sh', '-c', wait, 'sh', root, ...server], ['pipe', 'pipe', 'inherit']);
  const output = child.stdout as NonNullable<typeof child.stdout>;
  await once(output, 'data');
  output.resume();
  const inside = (...command: string[]): string => run('nsenter', '--target', `${child.pid}`, '--net', '--', ...command);
  const edgepoint = (...command: string[]): string => run('nsenter', '--target', `${engine.place.pid}`, '--net', '--', ...command);
  edgepoint('ip', 'link', 'add', 'internet0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', `${child.pid}`);
  edgepoint('ip', 'address', 'add', '203.0.113.1/24', 'dev', 'internet0');
  edgepoint('ip', 'link', 'set', 'internet0', 'up');
  inside('ip', 'address', 'add', `${address}/24`, 'dev', 'eth0');
  inside('ip', 'link', 'set', 'eth0', 'up');
  child.stdin?.write('go\n');
  const command = (...words: string[]): string => inside('chroot', root, 'redis-cli', ...words).trim();
  await until('the database answers', () => {
    try {
      return command('PING') === 'PONG';
    } catch {
      return false;
    }
  });
  return { place: `${address}:${port}`, command };
}

function run(...[program, ...words]: string[]): string {
  const done = spawnSync(program as string, words);
  if (done.status !== 0) throw new Error(`${program} ${words.join(' ')}: ${done.stderr.toString()}`);
  return done.stdout.toString();
}
