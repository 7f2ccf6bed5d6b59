import { join } from 'node:path';
import { formatMs } from '../../kit/units.ts';
import { exampleApp } from '../../images/host/example-apps.ts';
import { type EndUser, settleEndUser } from './end-user.ts';
import { instanceProcesses } from './instance-processes.ts';
import { publishAndInstall } from './registry.ts';
import type { Telling } from './telling.ts';
import { awake, lookAt, lookText, watchInstances } from './timeline.ts';

const sleepMs = 30_000;
const statusMs = 10_000;

export async function tellStory(telling: Telling): Promise<void> {
  const { say } = telling;
  const chapter = (number: number, title: string): void => say(`\n${number}. ${title}`);
  chapter(1, 'A provider deploys Verdaccio, the npm registry server, from a folder with a manifest.');
  await deploy(telling, 'verdaccio');
  chapter(2, 'It was booted cold, probed, warmed, snapshotted, proved by a trial restore, and put to sleep.');
  const coldBootMs = await checkAsleep(telling, 'verdaccio');
  chapter(3, 'Two end users in different places ask for its name, each through a caching resolver of their own (unbound, with EDNS Client Subnet).');
  const [ann, bob] = await Promise.all([settleEndUser(telling.world, 'ann', 'berlin'), settleEndUser(telling.world, 'bob', 'chicago')]);
  try {
    await checkResolution(telling, [ann, bob]);
    chapter(4, `${ann.name}'s npm publishes a package to it and installs it; the first request of each finds it asleep.`);
    await firstRequest(telling, ann, coldBootMs);
    await sleepAgain(telling, 'verdaccio');
    await publishAndInstall(telling, ann, () => sleepAgain(telling, 'verdaccio'));
    chapter(5, 'A stateless app under concurrent load: clones of its template appear, and go back to sleep when it stops.');
    await deploy(telling, 'spread');
    await burst(telling, [ann, bob], 'spread');
  } finally {
    await Promise.all([ann.leave(), bob.leave()]);
  }
  chapter(6, 'What was used, and what it costs.');
  await showUsage(telling);
}

async function deploy({ conduit, check }: Telling, app: string): Promise<void> {
  check((await conduit.show(['deploy', exampleApp(app)])) === 0, `${app} is deployed`);
}

interface Status {
  readonly sites: readonly { readonly edgepoint: string; readonly state: { readonly coldBootMs: number | null; readonly restoreMs: number | null; readonly wakeBy: string; readonly status: string } | null }[];
}

/** The status once every edgepoint's own has come by way of the bus, a moment after its deploy said it was ready. */
async function readyStatus(conduit: Telling['conduit'], app: string): Promise<Status> {
  const endMs = performance.now() + statusMs;
  for (;;) {
    const status = await conduit.json<Status>(['status', app]);
    if (status.sites.every(({ state }) => state?.status === 'ready') || performance.now() > endMs) return status;
  }
}

/** The cold boot's milliseconds, the fastest of the edgepoints'. */
async function checkAsleep(telling: Telling, app: string): Promise<number> {
  const { conduit, world, say, check } = telling;
  const status = await readyStatus(conduit, app);
  const coldBoots = status.sites.flatMap(({ state }) => state?.coldBootMs ?? []);
  for (const { edgepoint, state } of status.sites) {
    say(`  ${edgepoint}: cold boot ${formatMs(state?.coldBootMs ?? 0)}, trial restore ${formatMs(state?.restoreMs ?? 0)}, wakes by ${state?.wakeBy ?? 'nothing'}`);
  }
  check(status.sites.every(({ state }) => state?.wakeBy === 'template'), 'every edgepoint wakes it from its template');
  const processes = instanceProcesses(world.describe().id);
  check(processes.length === 0, `no process of it is left (found ${processes.length})`);
  return Math.min(...coldBoots);
}

async function checkResolution({ world, say, check }: Telling, users: readonly EndUser[]): Promise<void> {
  const { edgepoints, zoneName } = world.describe();
  const sentTo: string[] = [];
  for (const user of users) {
    const { stdout } = await user.run(['getent', 'ahosts', `verdaccio.${zoneName}`]);
    const addresses = [...new Set(stdout.split('\n').flatMap((line) => line.split(/\s+/)[0] || []))];
    const first = edgepoints.find(({ ipv4, ipv6 }) => addresses[0] === ipv4 || addresses[0] === ipv6);
    say(`  ${user.name} in ${user.place} (${user.ipv4}) gets ${addresses.join(', ')}: ${first?.edgepoint ?? 'nobody'}`);
    if (first) sentTo.push(first.edgepoint);
  }
  check(new Set(sentTo).size === users.length, 'they are sent to different edgepoints');
}

async function firstRequest({ world, say, check }: Telling, user: EndUser, coldBootMs: number): Promise<void> {
  const url = `http://verdaccio.${world.describe().zoneName}/-/ping`;
  const curl = (): Promise<{ stdout: string }> => user.run(['curl', '-s', '-o', '/dev/null', '-w', '%{http_code} %{time_starttransfer} %{time_namelookup}', url]);
  const held = (await curl()).stdout.split(' ');
  const warm = (await curl()).stdout.split(' ');
  const firstByteMs = (answer: readonly string[]): number => (Number(answer[1]) - Number(answer[2])) * 1000;
  say(`  time to first byte: ${formatMs(firstByteMs(held))} while it was woken, ${formatMs(firstByteMs(warm))} once warm; its cold boot took ${formatMs(coldBootMs)}`);
  check(held[0] === '200' && warm[0] === '200', 'the first request was held and answered');
  check(firstByteMs(held) < coldBootMs, `waking was ${(coldBootMs / firstByteMs(held)).toFixed(1)} times as fast as a cold boot`);
}

async function sleepAgain({ world, conduitUrl, token, say, check }: Telling, app: string): Promise<void> {
  const startedMs = performance.now();
  const last = await watchInstances(() => lookAt(conduitUrl, token, app), {
    stepMs: 100,
    forMs: sleepMs,
    onChange: () => undefined,
    /* The counts come by way of the bus, a moment after the fact; the processes are the fact. */
    done: (look) => instanceProcesses(world.describe().id).length === 0 && look.sites.every((site) => awake(site.instances) === 0),
  });
  const left = instanceProcesses(world.describe().id).length;
  const asleep = last.sites.every((site) => awake(site.instances) === 0);
  if (asleep) say(`  asleep again after ${formatMs(performance.now() - startedMs)} without a request`);
  check(asleep && left === 0, `${app} sleeps again by itself (${left} processes left)`);
}

const burstSeconds = 8;
const burstConnections = 12;
const burstRequestsMax = 20_000;

async function burst(telling: Telling, users: readonly EndUser[], app: string): Promise<void> {
  const { world, conduitUrl, token, say, check } = telling;
  const url = `http://${app}.${world.describe().zoneName}/burn?ms=10`;
  const script = join(import.meta.dirname, 'burst.mjs');
  const sinceMs = performance.now();
  let most = 0;
  let loadEnded = false;
  const loads = Promise.all(
    users.map(async (user) => {
      let summary = '{}';
      const exitCode = await user.follow(['node', script, url, `${burstConnections}`, `${burstSeconds}`, `${burstRequestsMax}`], (line) => (summary = line));
      return { user, exitCode, result: JSON.parse(summary) as { requests: number; lost: number; statuses: Record<string, number>; p50Ms: number; p99Ms: number } };
    }),
  ).finally(() => (loadEnded = true));
  say(`  ${users.length} end users, ${burstConnections} connections each, for ${burstSeconds} s; instances awake:`);
  const last = await watchInstances(() => lookAt(conduitUrl, token, app), {
    stepMs: 100,
    forMs: burstSeconds * 1000 + sleepMs,
    onChange: (look) => {
      say(`  ${lookText(look, sinceMs)}`);
      most = Math.max(most, ...look.sites.map((site) => awake(site.instances)));
    },
    done: (look) => loadEnded && look.sites.every((site) => awake(site.instances) === 0),
  });
  for (const { user, result } of await loads) {
    say(`  ${user.name}: ${result.requests} requests, p50 ${formatMs(result.p50Ms)}, p99 ${formatMs(result.p99Ms)}, ${result.lost} lost, by status ${JSON.stringify(result.statuses)}`);
    check(result.lost === 0 && Object.keys(result.statuses).join() === '200', `none of ${user.name}'s requests was lost`);
  }
  check(most > 1, `as many as ${most} clones served at one edgepoint`);
  check(last.sites.every((site) => awake(site.instances) === 0), 'all of them went back to sleep');
  check(instanceProcesses(world.describe().id).length === 0, 'no process of any instance is left');
}

interface Usage {
  readonly totalMicros: number;
  readonly lines: readonly unknown[];
}

async function showUsage({ conduit, check }: Telling): Promise<void> {
  await conduit.show(['usage']);
  const usage = await conduit.json<Usage>(['usage']);
  check(usage.lines.length > 0 && usage.totalMicros > 0, 'metering has a price for it');
}
