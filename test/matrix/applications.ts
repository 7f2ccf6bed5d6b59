import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Application, get, offeringNamed, programsFolder, programText } from './application.ts';
import { query } from './postgres.ts';

const small = offeringNamed('small');
const medium = offeringNamed('medium');

type Connect = () => Promise<Socket>;

/** Its timers must go on after every wake. */
async function ticksOn(connect: Connect): Promise<void> {
  const first = Number(await get(connect, '/ticks'));
  for (let attempt = 0; attempt < 200; attempt += 1) {
    if (Number(await get(connect, '/ticks')) > first) return;
    await sleep(10);
  }
  throw new Error(`its timer stands still at ${first}`);
}

/** Of servers that answer `MEMORY OTHER FILE`: the memory of one process or thread, of another, and the private disk count the same. */
async function countEverywhere(connect: Connect): Promise<number> {
  const [memory, other, file] = (await get(connect)).split(' ').map(Number);
  if (memory === undefined || memory !== other || memory !== file) throw new Error(`it counts ${memory} in memory, ${other} in the other's memory, ${file} on its disk`);
  await ticksOn(connect);
  return memory;
}

function nodeLike(name: string, command: readonly string[]): Application {
  return { name, command, files: { 'server.js': programText('server.js') }, offering: small, count: countEverywhere };
}

const python: Application = {
  name: 'Python 3.13',
  command: ['python3', 'server.py'],
  files: { 'server.py': programText('server.py') },
  offering: small,
  count: countEverywhere,
};

function compiledServer(name: string, command: string): Application {
  const count = async (connect: Connect): Promise<number> => {
    const counted = Number(await get(connect, '/count'));
    await ticksOn(connect);
    return counted;
  };
  return { name, command: [command], files: {}, offering: small, count };
}

/** Compiled by the root's own compiler, which is part of its runtime (the module jdk.compiler). */
export function java(runtimes: string): Application {
  const classes = mkdtempSync(join(tmpdir(), 'classes-'));
  try {
    const inRoot = 'mount -t proc proc "$0/proc" && mount --bind "$1" "$0/app" && mount --bind "$2" "$0/run" && exec chroot "$0" java -m jdk.compiler/com.sun.tools.javac.Main -d /run /app/Server.java';
    const done = spawnSync('unshare', ['--mount', 'sh', '-c', inRoot, runtimes, programsFolder, classes]);
    if (done.status !== 0) throw new Error(`Server.java: ${done.stderr.toString()}`);
    const files = Object.fromEntries(readdirSync(classes).map((name) => [name, readFileSync(join(classes, name))]));
    return { name: 'Java 21', command: ['java', '-Xmx128m', '-cp', '/app', 'Server'], files, offering: medium, count: countEverywhere };
  } finally {
    rmSync(classes, { recursive: true, force: true });
  }
}

/** Redis takes commands as lines (its protocol's "inline commands"). */
async function redisCommand(connect: Connect, line: string): Promise<string> {
  const socket = await connect();
  return new Promise((resolve, reject) => {
    socket.once('data', (answer: Buffer) => resolve(answer.toString().trim())).once('error', reject).once('close', () => reject(new Error('closed')));
    socket.write(`${line}\r\n`);
  }).finally(() => socket.destroy()) as Promise<string>;
}

const redis: Application = {
  name: 'Redis 8.0',
  command: ['redis-server', '--port', '8080', '--bind', '0.0.0.0', '--protected-mode', 'no', '--save', '', '--dir', '/tmp'],
  files: {},
  offering: small,
  async count(connect) {
    const counted = Number((await redisCommand(connect, 'INCR counted')).slice(1));
    await redisCommand(connect, `SET key${counted} ${'x'.repeat(1000)} PX 600000`);
    const size = await redisCommand(connect, 'DBSIZE');
    if (size !== `:${counted + 1}`) throw new Error(`it has counted ${counted} but says DBSIZE ${size}`);
    return counted;
  },
};

/** Makes its database at the first start; refuses to run as root, so it runs as the user its package made. */
const postgresStart = `#!/bin/sh
set -e
bin=/usr/lib/postgresql/17/bin
data=/var/data/17
as_postgres="setpriv --reuid postgres --regid postgres --clear-groups"
if [ ! -d $data ]; then
  mkdir -p $data
  chown postgres:postgres $data
  $as_postgres $bin/initdb --pgdata=$data --auth=trust --no-sync --no-instructions --wal-segsize=1
  echo 'host all all all trust' >> $data/pg_hba.conf
fi
exec $as_postgres $bin/postgres -D $data -p 8080 -h '*' -k /tmp
`;

/** The code of its errors while it starts or recovers (PostgreSQL's documentation, "Error Codes"). */
const cannotConnectNow = '57P03';

/** Rows survive, and so does a session's timer: a query that takes too long is ended by one of PostgreSQL's. */
export const postgres: Application = {
  name: 'PostgreSQL 17',
  command: ['/app/start.sh'],
  files: { 'start.sh': postgresStart },
  offering: medium,
  async count(connect) {
    const answers = async (sql: string): Promise<string[]> => query(await connect(), sql);
    for (let attempt = 0; ; attempt += 1) {
      try {
        await answers('create table if not exists rows (number serial)');
        break;
      } catch (error) {
        if (attempt > 500 || !String(error).includes(cannotConnectNow)) throw error;
        await sleep(20);
      }
    }
    const [number] = await answers('insert into rows default values returning number');
    const [rows] = await answers('select count(*) from rows');
    if (Number(rows) > Number(number)) throw new Error(`row ${number} is one of ${rows}`); // after a crash it skips numbers, not rows
    const ended = await answers('set statement_timeout = 50; select pg_sleep(20)').catch((error: Error) => error.message);
    if (!/statement timeout/.test(String(ended))) throw new Error(`its timer did not end a query: ${ended}`);
    return Number(rows);
  },
};

/** Its workers share a counter of connections in memory. */
const nginxConfiguration = `
user www-data;
worker_processes 2;
pid /tmp/nginx.pid;
error_log stderr;
events { worker_connections 256; }
http {
  access_log off;
  server {
    listen 8080;
    location / { default_type text/plain; return 200 "$connection\\n"; }
  }
}
`;

const nginx: Application = {
  name: 'nginx 1.26',
  command: ['nginx', '-c', '/app/nginx.conf', '-g', 'daemon off;'],
  files: { 'nginx.conf': nginxConfiguration },
  offering: small,
  count: async (connect) => Number(await get(connect)),
};

/** A program of test/programs in C, compiled; it is static, so it runs in any root. */
export function compiled(source: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'compiled-'));
  try {
    const done = spawnSync('gcc', ['-static', '-O2', '-Wall', '-Wextra', '-Werror', '-o', join(folder, 'program'), join(programsFolder, source)]);
    if (done.status !== 0) throw new Error(`${source}: ${done.stderr.toString()}`);
    return readFileSync(join(folder, 'program'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Every kind of thing a program may hold counts by itself (kinds.c). */
export function everyKind(): Application {
  return {
    name: 'every kind, in C',
    command: ['/app/kinds'],
    files: { kinds: compiled('kinds.c') },
    offering: small,
    async count(connect) {
      const answer = await get(connect);
      const values = answer.split('\n').map((line) => line.split(' '));
      const counted = values.map(([, value]) => Number(value)).toSorted((a, b) => a - b).at(-1);
      const wrong = values.filter(([, value]) => Number(value) !== counted).map((line) => line.join(' '));
      if (counted === undefined || wrong.length > 0) throw new Error(`at ${counted}: ${wrong.join(', ')}`);
      return counted;
    },
  };
}

export function applications(runtimes: string): readonly Application[] {
  return [
    nodeLike('Node 20', ['node', 'server.js']),
    nodeLike('Node 24', ['node24', 'server.js']),
    nodeLike('Node 26', ['node26', 'server.js']),
    nodeLike('Bun 1.4', ['bun', 'server.js']),
    python,
    java(runtimes),
    compiledServer('Go 1.24', 'go-server'),
    compiledServer('Rust', 'rust-server'),
    redis,
    postgres,
    nginx,
    everyKind(),
    nodeLike('as another user', ['setpriv', '--reuid', '1234', '--regid', '1234', '--clear-groups', 'node', 'server.js']),
  ];
}
