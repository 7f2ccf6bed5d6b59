import { Failure } from '../../kit/errors.ts';

/** `host:port` or `[v6]:port`. */
export function readListen(text: string): { hostname: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new Failure('bad-setting', `listen: ${text} is no address`, { remedy: 'Write host:port, or [address]:port for IPv6.' });
  }
  return { hostname: match[1] ?? match[2] ?? '', port };
}
