import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { deployFolder, openChildWorld } from './child-world.ts';
import type { ChildWorld } from './child-world.ts';
import type { Report } from './report.ts';
import { median, medianRatio, percentile, rounded } from './statistics.ts';

/** The server and, in its turn, the proxy before it have one processor, the load has the other. */
const serverCpu = 0;
const loadCpu = 1;
const connections = 32;
const port = 8080;

interface Way {
  readonly name: string;
  readonly url: string;
}

/**
 * Keep-alive GETs to one instance of an app: by its own address, beside direct routing to the instance and nginx as a stream proxy and
 * as a reverse proxy, in turn in one run. The figure is requests for each second: the server and the proxy before it share a processor,
 * which is what is short. Then first connections that find the app asleep, held until it is awake.
 */
export async function run({ quick }: { quick: boolean }): Promise<Report> {
  const world = await openChildWorld();
  const folder = mkdtempSync(join(tmpdir(), 'edgepoint-bench-kernel-path-'));
  const closing: (() => void)[] = [() => rmSync(folder, { recursive: true, force: true })];
  try {
    const place = await deployServer(world, folder);
    const ways = [
      { name: 'own address', url: `http://${place.own}:${port}/` },
      { name: 'direct', url: `http://${place.instance}:${port}/` },
      { name: 'nginx stream', url: `http://${place.edgepoint}:${port + 1}/` },
      { name: 'nginx', url: `http://${place.edgepoint}:${port + 2}/` },
    ];
    closing.push(letThrough(place), startNginx(folder, place));
    const rounds = quick ? 9 : 21;
    const samples = new Map(ways.map(({ name }) => [name, [] as number[]]));
    for (const way of ways) load(place, way, 1);
    for (let round = 0; round < rounds; round += 1) {
      for (let turn = 0; turn < ways.length; turn += 1) {
        const way = ways[(turn + round) % ways.length] as Way;
        samples.get(way.name)?.push(load(place, way, quick ? 1 : 3));
      }
    }
    const wakes = await firstConnections(folder, place, quick ? 10 : 30);
    return summarize(samples, wakes, rounds);
  } finally {
    for (const close of closing.toReversed()) close();
    await world.stop();
  }
}

interface Place {
  readonly token: string;
  readonly conduitUrl: string;
  readonly netns: string;
  /** Where the load comes from: another edgepoint's namespace, on the same bridge. */
  readonly loadNetns: string;
  readonly edgepoint: string;
  readonly own: string;
  readonly instance: string;
}

async function deployServer(world: ChildWorld, folder: string): Promise<Place> {
  const { conduitUrl, edgepoints } = world.description;
  const [site, other] = edgepoints;
  if (site === undefined || other === undefined) throw new Error('a world has two edgepoints');
  const token = await world.newProvider('bench');
  await deployFolder(writeApp(folder, 'bench', 'min = 1\nmax = 1'), { conduitUrl, token });
  const own = ownAddressOf(site.netns, []);
  // Its name in the table of elements is its address there.
  await answers(other.netns, own);
  const instance = /: (\d+\.\d+\.\d+\.\d+) \. /.exec(sh(`ip netns exec ${site.netns} nft list map inet edgepoint-own one4`))?.[1] ?? '';
  for (const pid of sh('pgrep -x keep-alive-serv || true').split('\n').filter(Boolean)) {
    if (sh(`nsenter --target ${pid} --net ip -4 -o addr`).includes(` ${instance}/`)) sh(`taskset --all-tasks --cpu-list --pid ${serverCpu} ${pid}`);
  }
  return { token, conduitUrl, netns: site.netns, loadNetns: other.netns, edgepoint: site.ipv4, own, instance };
}

function writeApp(folder: string, app: string, scale: string): string {
  const path = join(folder, app);
  mkdirSync(path, { recursive: true });
  sh(`gcc -O2 -static -o ${path}/keep-alive-server ${join(import.meta.dir, 'keep-alive-server.c')}`);
  writeFileSync(join(path, 'edgepoint.toml'), `app = "${app}"\ncommand = ["/app/keep-alive-server"]\nport = ${port}\n\n[[ownPort]]\nport = ${port}\n\n[scale]\n${scale}\nconcurrency = 1000\n`);
  return path;
}

/** The one address that is held for and is not among the known. */
function ownAddressOf(netns: string, known: readonly string[]): string {
  const held = sh(`ip netns exec ${netns} nft list map inet edgepoint-own held4`);
  const found = [...held.matchAll(/(\d+\.\d+\.\d+\.\d+) \. tcp/g)].flatMap(([, address = '']) => (known.includes(address) ? [] : [address]));
  if (found.length !== 1) throw new Error(`not one own address: ${held}`);
  return found[0] ?? '';
}

async function answers(netns: string, address: string): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) {
    if (Bun.spawnSync(['ip', 'netns', 'exec', netns, 'curl', '-s', '-m', '5', '-o', '/dev/null', `http://${address}:${port}/`]).exitCode === 0) return;
    await Bun.sleep(50);
  }
  throw new Error(`${address} does not answer`);
}

/** Direct routing, which no end user has: a route to the instances, and a rule that lets it in. */
function letThrough(place: Place): () => void {
  sh(`ip -n ${place.loadNetns} route add ${place.instance}/32 via ${place.edgepoint}`);
  sh(`ip netns exec ${place.netns} nft insert rule inet edgepoint-instances forward ip daddr ${place.instance} tcp dport ${port} accept`);
  return () => undefined; // it goes with the world
}

function startNginx(folder: string, place: Place): () => void {
  const config = join(folder, 'nginx.conf');
  writeFileSync(
    config,
    `load_module /usr/lib/nginx/modules/ngx_stream_module.so; daemon off; master_process off; worker_processes 1; pid ${folder}/nginx.pid; error_log stderr error; events { worker_connections 4096; }
stream { server { listen ${port + 1}; tcp_nodelay on; proxy_pass ${place.instance}:${port}; } }
http { access_log off; tcp_nodelay on; client_body_temp_path ${folder}/a; proxy_temp_path ${folder}/b; fastcgi_temp_path ${folder}/c; uwsgi_temp_path ${folder}/d; scgi_temp_path ${folder}/e;
  upstream app { server ${place.instance}:${port}; keepalive 64; keepalive_requests 100000000; }
  server { listen ${port + 2}; keepalive_requests 100000000; location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; } } }
`,
  );
  const child = Bun.spawn(['ip', 'netns', 'exec', place.netns, 'taskset', '--cpu-list', `${serverCpu}`, '/usr/sbin/nginx', '-c', config, '-p', folder], { stdio: ['ignore', 'ignore', 'inherit'] });
  return () => child.kill('SIGKILL');
}

/** Requests for each second. */
function load(place: Place, way: Way, seconds: number): number {
  const text = sh(`ip netns exec ${place.loadNetns} taskset --cpu-list ${loadCpu} wrk --threads 1 --connections ${connections} --duration ${seconds}s ${way.url}`);
  if (/Non-2xx|Socket errors/.test(text)) throw new Error(`${way.name}: ${text}`);
  const perSecond = Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]);
  if (!(perSecond > 0)) throw new Error(`${way.name}: ${text}`);
  return perSecond;
}

/** Milliseconds from the first SYN to the first byte of the answer, by an app that sleeps each time: by its own address and, in turn, by the shared one. */
async function firstConnections(folder: string, place: Place, count: number): Promise<{ own: number[]; shared: number[] }> {
  await deployFolder(writeApp(folder, 'sleeper', 'idleSeconds = 0.2\nmax = 1'), place);
  const own = ownAddressOf(place.netns, [place.own]);
  const times = { own: [] as number[], shared: [] as number[] };
  const ask = (words: string): number => Number(sh(`ip netns exec ${place.loadNetns} curl -s -m 10 -o /dev/null -w '%{time_starttransfer}' ${words}`)) * 1000;
  for (let at = 0; at < 2 * count; at += 1) {
    while (sh(`ip netns exec ${place.netns} nft list map inet edgepoint-own one4`).includes(own)) await Bun.sleep(50);
    await Bun.sleep(300);
    if (at % 2 === 0) times.own.push(ask(`http://${own}:${port}/`));
    else times.shared.push(ask(`--header 'Host: sleeper.edge.test' http://${place.edgepoint}/`));
  }
  return times;
}

function sh(command: string): string {
  const done = Bun.spawnSync(['sh', '-c', command], { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' });
  if (done.exitCode !== 0) throw new Error(`${command}: ${done.stdout.toString()}${done.stderr.toString()}`);
  return done.stdout.toString();
}

function summarize(samples: ReadonlyMap<string, readonly number[]>, wakes: { readonly own: readonly number[]; readonly shared: readonly number[] }, rounds: number): Report {
  const of = (name: string): readonly number[] => samples.get(name) ?? [];
  return {
    bench: 'kernel-path',
    ratios: {
      overDirect: rounded(medianRatio(of('own address'), of('direct'))),
      overNginx: rounded(medianRatio(of('own address'), of('nginx stream'))),
      overNginxReverse: rounded(medianRatio(of('own address'), of('nginx'))),
    },
    figures: { n: rounds, connections, heldFirstByteMs: rounded(median(wakes.own), 1), heldFirstByteP90Ms: rounded(percentile(wakes.own, 0.9), 1), sharedFirstByteMs: rounded(median(wakes.shared), 1), wakes: wakes.own.length },
    rows: [...samples].map(([name, perSecond]) => ({ 'keep-alive GETs': name, n: perSecond.length, 'requests / s': rounded(median(perSecond), 0) })),
    notes: [
      `${connections} connections, 512 byte answers, requests for each second: the server and the proxy before it share one processor, the load has the other. Load average ${readFileSync('/proc/loadavg', 'utf8').split(' ')[0]}.`,
      'overDirect and overNginx: own address divided by the other. held: from the first SYN to the first byte, by an app that was asleep; shared: the same by the shared address, in turn.',
    ],
  };
}
