/** A ready network namespace for a peer, joined to the instances' bridge like an instance's own. */
export interface PeerNetwork {
  readonly path: string;
  close(): void;
}

export function openNetwork(netns: string, link: string, { address, prefixLength }: { address: string; prefixLength: number }): PeerNetwork {
  const ip = (...words: string[]): void => {
    const done = Bun.spawnSync(['ip', ...words], { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' });
    if (done.exitCode !== 0) throw new Error(`ip ${words.join(' ')}: ${done.stderr.toString().trim()}`);
  };
  ip('netns', 'add', netns);
  ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns);
  ip('link', 'set', link, 'master', 'instances0', 'up');
  ip('-n', netns, 'addr', 'add', `${address}/${prefixLength}`, 'dev', 'eth0');
  ip('-n', netns, 'link', 'set', 'eth0', 'up');
  ip('-n', netns, 'link', 'set', 'lo', 'up');
  return { path: `/run/netns/${netns}`, close: () => ip('netns', 'delete', netns) };
}
