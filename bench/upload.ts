import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectBus } from '../host/bus.ts';
import { natsServerConfig, newBusUser, prepareStreams } from '../host/credentials.ts';
import { writeNatsConfig } from '../host/nats-server.ts';
import { tools } from '../host/tools.ts';
import type { Site } from '../kit/ids.ts';
import { formatBytes } from '../kit/units.ts';
import { interleave } from './interleave.ts';
import { freePort } from './local-dispatcher.ts';
import { othersCpu, startNginx } from './proxies.ts';
import type { Report } from './report.ts';
import { median, medianRatio, rounded } from './statistics.ts';

const app = 'upload';
const site: Site = { zone: 'bench', edgepoint: 'one' };
const repository = join(import.meta.dir, '..');
const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, with: () => log };

/**
 * curl sends an artefact, the project's own node_modules, to the conduit and to nginx (PUT, ngx_http_dav_module) in turn. When the conduit answers, the
 * archive was read through, is durable, and its release is in the database; when nginx answers, the file has its name.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  const folder = mkdtempSync('/var/tmp/edgepoint-bench-upload-');
  const closing: (() => Promise<void>)[] = [() => Promise.resolve(rmSync(folder, { recursive: true, force: true }))];
  try {
    const archive = makeArchive(folder);
    const conduit = await openConduit(folder, closing);
    mkdirSync(join(folder, 'put'));
    // Not alone on a processor, as the conduit is not.
    const nginx = await startNginx(folder, 'nginx', othersCpu, (port) => `server { listen 127.0.0.1:${port}; client_max_body_size 0; location / { root ${folder}/put; dav_methods PUT; client_body_buffer_size 1m; } }`);
    closing.push(nginx.close);
    Bun.spawnSync(['taskset', '-a', '-p', '-c', `0-${navigator.hardwareConcurrency - 1}`, `${nginx.pid}`]);
    let puts = 0;
    const contenders = [
      { name: 'conduit', run: () => conduit.upload(archive) },
      {
        name: 'nginx',
        run: async () => {
          const tookMs = await curl(['-T', archive, `http://127.0.0.1:${nginx.port}/${(puts += 1)}.tar.gz`]);
          rmSync(join(folder, 'put', `${puts}.tar.gz`));
          return tookMs;
        },
      },
    ];
    const samples = await interleave(contenders, { rounds: quick ? 9 : 31, deadlineMs: quick ? 90_000 : 600_000 });
    return summarize(samples.get('conduit') ?? [], samples.get('nginx') ?? [], statSync(archive).size);
  } finally {
    for (const close of closing.toReversed()) await close();
  }
}

/** Libraries as providers have them, packed as the command line packs. */
function makeArchive(folder: string): string {
  const source = join(folder, 'app');
  mkdirSync(source);
  writeFileSync(join(source, 'edgepoint.toml'), `app = "${app}"\ncommand = ["node", "server.js"]\nport = 3000\n`);
  const archive = join(folder, 'app.tar.gz');
  const modules = ['typescript', 'zod', 'hono', 'undici', 'tar', 'pino', 'prom-client', '@libsql', '@nats-io', 'commander', 'fast-check', 'playwright-core'].map((name) => `node_modules/${name}`);
  const made = Bun.spawnSync(['tar', '-czf', archive, '-C', source, 'edgepoint.toml', '-C', repository, ...modules], { stderr: 'pipe' });
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  return archive;
}

async function curl(args: readonly string[]): Promise<number> {
  const begunMs = performance.now();
  const child = Bun.spawn(['curl', '-sS', '--fail-with-body', '-o', '/dev/null', ...args], { stderr: 'pipe' });
  const said = new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`curl: ${await said}`);
  return performance.now() - begunMs;
}

interface Conduit {
  /** Milliseconds until it was answered; returns when the conduit has told the bus of it and rests. */
  upload(archive: string): Promise<number>;
}

async function openConduit(folder: string, closing: (() => Promise<void>)[]): Promise<Conduit> {
  const users = { operator: newBusUser('operator', null), conduit: newBusUser('conduit', null), edgepoint: newBusUser('edgepoint', site) };
  const [natsPort, port] = [await freePort(), await freePort()];
  const natsConfig = join(folder, 'nats.conf');
  writeNatsConfig(natsConfig, natsServerConfig({ operator: 'bench', listen: `127.0.0.1:${natsPort}`, storeFolder: join(folder, 'store'), users: Object.values(users).map(({ user }) => user) }));
  const nats = Bun.spawn([tools.natsServer, '-c', natsConfig], { stdio: ['ignore', 'ignore', 'ignore'] });
  closing.push(() => ended(nats));
  const operator = await connectBus({ url: `nats://127.0.0.1:${natsPort}`, seed: users.operator.seed, name: 'bench' }, log);
  while (!operator.up) await Bun.sleep(5);
  await prepareStreams(operator, [site]);
  await operator.close();

  const [seedFile, config] = [join(folder, 'conduit.seed'), join(folder, 'conduit.json')];
  writeFileSync(seedFile, users.conduit.seed, { mode: 0o600 });
  const settings = { listen: `127.0.0.1:${port}`, databaseUrl: `file:${join(folder, 'conduit.db')}`, keyFile: join(folder, 'conduit.key'), natsUrl: `nats://127.0.0.1:${natsPort}`, natsSeedFile: seedFile, sites: [site], uploadFolder: join(folder, 'uploads') };
  writeFileSync(config, JSON.stringify(settings));
  const main = [process.execPath, join(repository, 'conduit/main.ts')];
  const account = Bun.spawnSync([...main, 'new-provider', 'bench', '--config', config], { stderr: 'pipe' });
  const token = account.stdout.toString().trim();
  if (account.exitCode !== 0) throw new Error(account.stderr.toString());
  const conduit = Bun.spawn([...main, '--config', config], { stdio: ['ignore', 'ignore', 'ignore'] });
  closing.push(() => ended(conduit));
  const headers = { authorization: `Bearer ${token}` };
  const url = `http://127.0.0.1:${port}/v1/apps`;
  for (let waited = 0; !(await fetch(url, { headers }).then(({ ok }) => ok, () => false)); waited += 1) {
    if (waited > 500) throw new Error('the conduit does not answer');
    await Bun.sleep(20);
  }
  return {
    async upload(archive) {
      const tookMs = await curl(['-X', 'POST', '-H', `Authorization: ${headers.authorization}`, '-T', archive, `${url}/${app}/releases`]);
      while (!((await (await fetch(`${url}/${app}`, { headers })).json()) as { published: boolean }).published) await Bun.sleep(20);
      return tookMs;
    },
  };
}

async function ended(child: Bun.Subprocess): Promise<void> {
  child.kill('SIGTERM');
  await child.exited;
}

function summarize(ours: readonly number[], nginx: readonly number[], bytes: number): Report {
  const perSecond = (ms: readonly number[]): string => `${formatBytes((bytes / median(ms)) * 1000)}/s`;
  return {
    bench: 'upload',
    ratios: { uploadOverNginx: rounded(medianRatio(nginx, ours)) },
    figures: { conduitMs: rounded(median(ours)), nginxMs: rounded(median(nginx)), megabytes: rounded(bytes / 1e6), n: ours.length },
    rows: [
      { [`curl sends ${formatBytes(bytes)} to`]: 'the conduit', n: ours.length, 'p50 ms': rounded(median(ours)), rate: perSecond(ours) },
      { [`curl sends ${formatBytes(bytes)} to`]: 'nginx', n: nginx.length, 'p50 ms': rounded(median(nginx)), rate: perSecond(nginx) },
    ],
    notes: ['nginx stores the bytes; the conduit also reads the archive through, syncs it to the disk and writes its release down before it answers.'],
  };
}
