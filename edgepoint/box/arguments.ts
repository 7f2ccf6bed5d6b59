import type { PlainSecrets } from '../../kit/wire/secrets.ts';
import type { BootOrder, BoxOrder, EnterOrder, ProcessOrder, RestoreOrder } from '../model/calls.ts';
import { imageFirstUid, imageRoot } from '../model/calls.ts';
import { type FileValues, fillText } from '../model/files.ts';
import { restoreRequest } from './criu-request.ts';
import { snapshotParts } from './folders.ts';

/** What the edgepoint adds to an order before a box can be made of it. */
export interface BoxFacts {
  readonly folder: string;
  /** Below the artefact: the base root, or for an image what holds the guard alone. */
  readonly base: string;
  readonly artefactUid: number;
  readonly dev: string;
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway: string;
  /** Its IPv6 address and gateway; missing where no app has an IPv6 address of its own. */
  readonly ipv6?: { readonly address: string; readonly prefixLength: number; readonly gateway: string };
  readonly readerGid: number;
  /** Where the clone guard (edgepoint/guard) lies in the base root. */
  readonly guard: string;
  /** Addresses of the app's other instances on this edgepoint, when this one starts. */
  readonly peers?: readonly string[];
  /** Those of the order, opened. */
  readonly secrets?: PlainSecrets;
}

const idsPerInstance = 65_536;
/** More than the largest offering's private disk. */
const ghostBytesMax = 2 ** 31;

const ownValues = (order: Pick<BoxOrder, 'instance'>, facts: Pick<BoxFacts, 'address' | 'peers'>): FileValues => ({ instance: order.instance, address: facts.address, peers: (facts.peers ?? []).join(',') });

/** The options of edgepoint-box that boots and restores share. */
export function boxArguments(order: BoxOrder, facts: BoxFacts): string[] {
  const firstUid = order.uidSlot * idsPerInstance;
  const options: readonly (readonly string[])[] = [
    ...order.volumes.map((volume) => ['--volume', volume.imagePath, volume.mountPath]),
    ...(order.files ?? []).map((file) => ['--file', file.path, fillText(file.text, ownValues(order, facts))]),
    ...Object.entries(facts.secrets ?? {}).map(([name, value]) => ['--secret', name, value]),
    ['--folder', facts.folder],
    ['--base', facts.base],
    ['--artefact', order.image === true ? imageRoot(order.artefactPath) : order.artefactPath],
    ['--artefact-uid', `${order.image === true ? imageFirstUid : facts.artefactUid}`],
    ...(order.user === undefined ? [] : [['--user', order.user]]),
    ['--dev', facts.dev],
    ['--address', facts.address],
    ['--prefix-length', `${facts.prefixLength}`],
    ['--gateway', facts.gateway],
    ...(facts.ipv6 === undefined ? [] : [['--ipv6', facts.ipv6.address, `${facts.ipv6.prefixLength}`, facts.ipv6.gateway]]),
    ['--hostname', order.hostname],
    ['--first-uid', `${firstUid}`],
    ['--reader-gid', `${facts.readerGid}`],
    ['--disk-bytes', `${order.offering.diskBytes}`],
    ['--bytes-per-second', `${order.offering.networkBytesPerSecond}`],
    ['--operations-per-second', `${order.offering.diskOperationsPerSecond}`],
  ];
  return [...options.flat(), ...(order.ownNetwork ? ['--own-network'] : []), ...(order.image === true ? ['--image'] : [])];
}

/**
 * The environment that has programs load the clone guard first: the dynamic loader (ld.so(8)), Node, Bun and Python. What the
 * provider asks for of the same kind comes after it.
 */
export function guardedEnvironment(env: Readonly<Record<string, string>>, guard: string): Record<string, string> {
  const first = (name: string, value: string, separator: string): [string, string] => [name, env[name] ? `${value}${separator}${env[name]}` : value];
  return {
    ...env,
    ...Object.fromEntries([
      first('LD_PRELOAD', `${guard}/clone-guard.so`, ':'),
      first('NODE_OPTIONS', `--require=${guard}/clone-guard.cjs`, ' '),
      first('BUN_OPTIONS', `--preload=${guard}/clone-guard.cjs`, ' '),
      first('PYTHONPATH', `${guard}/python`, ':'),
    ]),
  };
}

/** The variables of what runs in an instance, its secrets among them. */
function environmentArguments(env: Readonly<Record<string, string>>, facts: Pick<BoxFacts, 'secrets' | 'guard'>): string[] {
  return Object.entries(guardedEnvironment({ ...facts.secrets, ...env }, facts.guard)).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
}

export function bootArguments(order: BootOrder, facts: BoxFacts): string[] {
  const fill = (env: Readonly<Record<string, string>>): Record<string, string> =>
    Object.fromEntries(Object.entries(env).map(([name, value]) => [name, fillText(value, ownValues(order, facts))]));
  const environment = environmentArguments(fill(order.env), facts);
  const processes = (order.processes ?? []).map((one) => processWords({ ...one, env: fill(one.env) }, facts.guard)).flatMap((words) => ['--process', `${words.length}`, ...words]);
  const begins = order.workingDirectory === undefined ? [] : ['--working-directory', order.workingDirectory];
  return ['boot', ...boxArguments(order, facts), ...begins, ...environment, ...processes, '--', ...order.command];
}

/** bash where there is one. */
const shell = ['/bin/sh', '-c', 'command -v bash >/dev/null && exec bash; exec sh'];

/** The order of `edgepoint-box enter` (enter.c): a command with the user, folder and variables of what `box` has booted. */
export function enterArguments(order: EnterOrder, box: Pick<BoxOrder, 'instance' | 'user'>, facts: Pick<BoxFacts, 'address' | 'peers' | 'secrets' | 'guard'>): string[] {
  const env = Object.fromEntries(Object.entries(order.env).map(([name, value]) => [name, fillText(value, ownValues(box, facts))]));
  const { terminal } = order;
  return [
    ...(box.user === undefined ? [] : ['--user', box.user]),
    ...(order.workingDirectory === undefined ? [] : ['--working-directory', order.workingDirectory]),
    ...(terminal === null ? [] : ['--terminal', `${terminal.rows}`, `${terminal.columns}`]),
    ...environmentArguments({ ...env, ...(terminal === null ? {} : { TERM: terminal.type }) }, facts),
    '--',
    ...(order.command.length === 0 ? shell : order.command),
  ];
}

/** As init.c reads them. */
function processWords({ name, command, env, mustLive }: ProcessOrder, guard: string): string[] {
  /* What a process says of these variables itself would hide what all of them are given. */
  const guarded = guardedEnvironment(env, guard);
  const variables = Object.keys(env).map((variable) => `${variable}=${guarded[variable] ?? ''}`);
  return [name, mustLive ? 'must-live' : 'may-end', `${variables.length}`, ...variables, `${command.length}`, ...command];
}

/** CRIU's log goes to `workFolder`. With a fill file (fill.ts) the restore is lazy: memory comes after it. */
export function restoreArguments(order: RestoreOrder, facts: BoxFacts, workFolder: string, fillFile: string | null): string[] {
  const snapshot = snapshotParts(order.snapshotPath);
  const request = restoreRequest({
    root: `${facts.folder}/root`,
    external: [`mnt[dev]:${facts.dev}`, ...order.volumes.map((_, index) => `mnt[v${index}]:${facts.folder}/v${index}`)],
    connections: order.continues ? 'keep' : 'close',
    ownNetwork: order.ownNetwork,
    logFile: 'restore.log',
    lazy: fillFile !== null,
  });
  return [
    'restore',
    ...boxArguments(order, facts),
    order.continues ? '--disk-copy' : '--disk-layer',
    snapshot.disk,
    '--images',
    snapshot.images,
    '--work',
    workFolder,
    ...(fillFile === null ? [] : ['--fill', fillFile, snapshot.firstPages]),
    '--',
    Buffer.from(request).toString('hex'),
  ];
}

/**
 * CRIU's arguments for a dump. CRIU does not lock the network, because a restore would then spend 20 ms on unlocking it by nftables:
 * where connections matter the caller cuts the instance's link. `script` copies the private disk while everything still stands.
 */
export function dumpArguments(dump: {
  readonly pid: number;
  readonly folder: string;
  readonly volumeMountPaths: readonly string[];
  readonly imagesFolder: string;
  readonly keepRunning: boolean;
  readonly ownNetwork: boolean;
  readonly script: string;
}): string[] {
  return [
    'dump',
    '--tree',
    `${dump.pid}`,
    '--images-dir',
    dump.imagesFolder,
    '--log-file',
    'dump.log',
    '-v2',
    '--root',
    `${dump.folder}/root`,
    '--manage-cgroups=ignore',
    '--network-lock',
    'skip',
    '--external',
    'mnt[/dev]:dev',
    ...dump.volumeMountPaths.flatMap((path, index) => ['--external', `mnt[${path}]:v${index}`]),
    '--tcp-established',
    '--skip-in-flight',
    '--file-locks',
    /* A deleted file that is still open is part of the state, however long: the private disk bounds it. */
    '--ghost-limit',
    `${ghostBytesMax}`,
    '--force-irmap',
    /* Where programs watch files; an overlay gives CRIU no other way from a watch to its path. */
    ...['/app', '/tmp', '/var', '/srv'].flatMap((path) => ['--irmap-scan-path', path]),
    '--action-script',
    dump.script,
    ...(dump.ownNetwork ? ['--empty-ns', 'net'] : []),
    ...(dump.keepRunning ? ['--leave-running'] : []),
  ];
}
