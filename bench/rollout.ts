import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChildWorld, deployFolder, openChildWorld } from './child-world.ts';
import type { Report } from './report.ts';
import { median, percentile, rounded } from './statistics.ts';

const app = 'rollout';
const askersPerEdgepoint = 4;
const settleMs = 20_000;

/** Answers with the release it is of. */
const server = `require('node:http').createServer((request, response) => response.end(process.env.EDGEPOINT_RELEASE)).listen(process.env.PORT, '0.0.0.0');\n`;
const manifest = `app = "${app}"\ncommand = ["node", "server.js"]\nport = 3000\n\n[scale]\nidleSeconds = 30\n`;

/**
 * A real world under load, in which an app is deployed anew and gone back from, again and again: requests lost meanwhile, and how long it takes
 * from the order to go back until each edgepoint has answered from the earlier release.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  const world = await openChildWorld();
  try {
    const token = await world.newProvider('bench');
    await deploy(world, token);
    const load = startLoad(world);
    await load.serves(1);
    const begunMs = performance.now();
    await deploy(world, token);
    await load.serves(2);
    const rolloutMs = performance.now() - begunMs;
    const backMs: number[] = [];
    for (let round = 0; round < (quick ? 5 : 25); round += 1) {
      backMs.push(await goTo(world, token, 1, load));
      backMs.push(await goTo(world, token, 2, load));
    }
    return summarize(await load.stop(), { rolloutMs, backMs });
  } finally {
    await world.stop();
  }
}

async function deploy(world: ChildWorld, token: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-bench-'));
  try {
    writeFileSync(join(folder, 'server.js'), server);
    writeFileSync(join(folder, 'edgepoint.toml'), manifest);
    await deployFolder(folder, { conduitUrl: world.description.conduitUrl, token });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Milliseconds from the order until every edgepoint has answered from that release. */
async function goTo(world: ChildWorld, token: string, release: number, load: Load): Promise<number> {
  const begunMs = performance.now();
  const answer = await fetch(`${world.description.conduitUrl}/v1/apps/${app}/rollback?release=${release}`, { method: 'POST', headers: { authorization: `Bearer ${token}` } });
  if (answer.status !== 201) throw new Error(`rollback: ${answer.status} ${await answer.text()}`);
  await load.serves(release);
  return performance.now() - begunMs;
}

interface Load {
  /** Resolves when, from now on, an answer of that release has come from every edgepoint. */
  serves(release: number): Promise<void>;
  stop(): Promise<{ asked: number; lost: number; examples: readonly string[] }>;
}

function startLoad({ description }: ChildWorld): Load {
  let stopped = false;
  const count = { asked: 0, lost: 0, examples: [] as string[] };
  const last = new Map<string, { release: number; at: number }>();
  const ask = async (edgepoint: string, ipv4: string): Promise<void> => {
    while (!stopped) {
      count.asked += 1;
      const begunMs = performance.now();
      try {
        const answer = await fetch(`http://${ipv4}/`, { headers: { host: `${app}.${description.zoneName}` } });
        const text = await answer.text();
        if (answer.status !== 200) throw new Error(`${answer.status} ${text}`);
        last.set(edgepoint, { release: Number(text), at: begunMs });
      } catch (thrown) {
        count.lost += 1;
        if (count.examples.length < 3) count.examples.push(String(thrown));
      }
      await Bun.sleep(2);
    }
  };
  const asking = description.edgepoints.flatMap(({ edgepoint, ipv4 }) => Array.from({ length: askersPerEdgepoint }, () => ask(edgepoint, ipv4)));
  return {
    async serves(release) {
      const fromMs = performance.now();
      const done = (): boolean => description.edgepoints.every(({ edgepoint }) => last.get(edgepoint)?.release === release && (last.get(edgepoint)?.at ?? 0) >= fromMs);
      while (!done()) {
        if (performance.now() - fromMs > settleMs) throw new Error(`release ${release} does not serve: ${JSON.stringify([...last])}`);
        await Bun.sleep(1);
      }
    },
    async stop() {
      stopped = true;
      await Promise.all(asking);
      return count;
    },
  };
}

function summarize(load: Awaited<ReturnType<Load['stop']>>, { rolloutMs, backMs }: { rolloutMs: number; backMs: readonly number[] }): Report {
  return {
    bench: 'rollout',
    ratios: {},
    figures: {
      lost: load.lost,
      asked: load.asked,
      rolloutMs: rounded(rolloutMs),
      rollbackMs: rounded(Math.max(...backMs)),
      rollbackMsP50: rounded(median(backMs)),
      n: backMs.length,
    },
    rows: [
      { 'a roll-out and roll-backs under load': 'requests', n: load.asked, lost: load.lost },
      { 'a roll-out and roll-backs under load': 'roll-back until both edgepoints answer from it', n: backMs.length, 'p50 ms': rounded(median(backMs), 1), 'p99 ms': rounded(percentile(backMs, 0.99), 1) },
    ],
    notes: ['The roll-out counts packing, sending, booting, the template and its trial at both edgepoints.', ...load.examples],
  };
}
