import { nearestWord } from '../../kit/nearest-word.ts';
import { fileNames } from '../../kit/wire/manifest.ts';
import type { Manifest } from '../../kit/wire/manifest.ts';
import type { KeyPath } from './locate.ts';

export interface RuleProblem {
  readonly path: KeyPath;
  readonly text: string;
}

/** Names under the zone that belong to the operator. */
export const reservedNames: readonly string[] = ['www', 'ns', 'ns1', 'ns2', 'dns', 'conduit', 'console', 'api', 'mail', 'localhost'];

/** Folders of the box that a volume may not cover. */
const reservedFolders = ['/app', '/dev', '/proc', '/sys', '/run', '/bin', '/sbin', '/lib', '/lib64', '/usr', '/etc', '/boot'];

/** What is not on the private disk, and files that the box writes itself. */
const foldersWithoutFiles = ['/dev', '/proc', '/sys'];
const filesOfTheBox = ['/etc/hosts', '/var/log/app.log', '/run/edgepoint/generation', '/run/edgepoint/init'];

type Rule = (manifest: Manifest) => RuleProblem[];

/** What one key alone cannot say; a table of labelled rows. */
const rules: Readonly<Record<string, Rule>> = {
  'name is not reserved': ({ app }) =>
    reservedNames.includes(app) ? [{ path: ['app'], text: `\`app\` cannot be "${app}": that name belongs to the operator` }] : [],
  'least is not above most': ({ scale }) =>
    scale.min > scale.max ? [{ path: ['scale', 'min'], text: `\`scale.min\` (${scale.min}) is above \`scale.max\` (${scale.max})` }] : [],
  'what is kept has one instance': ({ state, scale }) =>
    state === 'keep' && scale.min > 1
      ? [{ path: ['scale', 'min'], text: '`scale.min` is above 1, but an app with state = "keep" has exactly one instance' }]
      : [],
  'a health check is nobody’s page': ({ health }) =>
    health?.path === '/'
      ? [{ path: ['health', 'path'], text: '`health.path` is "/", which end users ask for too: they would be answered "asleep"; name a path of its own, such as /healthz' }]
      : [],
  'the port is ours to say': ({ env, port }) =>
    env['PORT'] !== undefined && env['PORT'] !== String(port)
      ? [{ path: ['env', 'PORT'], text: `\`env.PORT\` is "${env['PORT']}", but PORT is set from \`port\` (${port}); leave it out` }]
      : [],
  'no zero bytes': ({ env, command, process }) => [
    ...process.flatMap((part, index) => (JSON.stringify([part.env, part.command]).includes('\\u0000') ? [{ path: ['process', index], text: `\`process[${index}]\` has a zero byte in it` }] : [])),
    ...Object.entries(env).flatMap(([name, value]) => (value.includes('\0') ? [{ path: ['env', name], text: `\`env.${name}\` has a zero byte in it` }] : [])),
    ...command.flatMap((word, index) => (word.includes('\0') ? [{ path: ['command', index], text: `\`command[${index}]\` has a zero byte in it` }] : [])),
  ],
  'processes have names of their own': ({ process }) =>
    process.flatMap(({ name }, index) =>
      name === 'app' || process.findIndex((other) => other.name === name) < index
        ? [{ path: ['process', index, 'name'], text: name === 'app' ? 'a process cannot be named "app": that is the one of `command`' : `two processes have the name "${name}"` }]
        : [],
    ),
  'volumes have names of their own': ({ volume }) =>
    volume.flatMap(({ name }, index) =>
      volume.findIndex((other) => other.name === name) < index
        ? [{ path: ['volume', index, 'name'], text: `two volumes have the name "${name}"` }]
        : [],
    ),
  'volumes lie in folders of their own': ({ volume }) =>
    volume.flatMap(({ path }, index) => {
      const at: KeyPath = ['volume', index, 'path'];
      if (!isPlain(path)) return [{ path: at, text: `\`volume[${index}].path\` is "${path}"; it must be a plain absolute path such as /data` }];
      const reserved = reservedFolders.find((folder) => isInside(path, folder) && !(folder === '/app' && path !== '/app'));
      if (reserved) return [{ path: at, text: `a volume cannot lie at "${path}": ${reserved} belongs to the box` }];
      const other = volume.find((earlier, place) => place < index && (isInside(path, earlier.path) || isInside(earlier.path, path)));
      return other ? [{ path: at, text: `the volumes at "${other.path}" and "${path}" lie in one another` }] : [];
    }),
  'own ports are named once': ({ ownPort }) =>
    ownPort.flatMap(({ protocol, port }, index) =>
      ownPort.findIndex((other) => other.protocol === protocol && other.port === port) < index
        ? [{ path: ['ownPort', index, 'port'], text: `two of \`ownPort\` are ${protocol} port ${port}` }]
        : [],
    ),
  'each cron is named once': ({ cron }) =>
    cron.flatMap(({ schedule, path, method }, index) =>
      cron.findIndex((other) => other.schedule === schedule && other.path === path && other.method === method) < index
        ? [{ path: ['cron', index], text: `two of \`cron\` are ${method} ${path} at "${schedule}"` }]
        : [],
    ),
  'queues have names of their own': ({ queue }) =>
    queue.flatMap(({ name }, index) =>
      queue.findIndex((other) => other.name === name) < index ? [{ path: ['queue', index, 'name'], text: `two queues have the name "${name}"` }] : [],
    ),
  'files lie where they can be written': ({ file, volume }) =>
    file.flatMap(({ path }, index) => {
      const at: KeyPath = ['file', index, 'path'];
      if (!isPlain(path)) return [{ path: at, text: `\`file[${index}].path\` is "${path}"; it must be a plain absolute path such as /run/me.json` }];
      const reserved = foldersWithoutFiles.find((folder) => isInside(path, folder)) ?? filesOfTheBox.find((known) => isInside(path, known) || isInside(known, path));
      if (reserved !== undefined) return [{ path: at, text: `a file cannot lie at "${path}": ${reserved} belongs to the box` }];
      const inVolume = volume.find((other) => isInside(path, other.path) || isInside(other.path, path));
      if (inVolume) return [{ path: at, text: `a file cannot lie at "${path}": the volume "${inVolume.name}" is there, and all instances that share it would see one file` }];
      const other = file.find((earlier, place) => place < index && (isInside(path, earlier.path) || isInside(earlier.path, path)));
      return other ? [{ path: at, text: `two files cannot lie at "${other.path}" and "${path}"` }] : [];
    }),
  'names in files are known': ({ file }) =>
    file.flatMap(({ text }, index) => {
      const at: KeyPath = ['file', index, 'text'];
      if (text.includes('\0')) return [{ path: at, text: `\`file[${index}].text\` has a zero byte in it` }];
      // Other braces are the file's own affair; only what is likely meant as one of ours is a mistake.
      return [...text.matchAll(/\{([A-Za-z_-]+)\}/g)].flatMap(([whole, name = '']) => {
        const likely = fileNames.some((known) => known === name) ? null : nearestWord(name, fileNames);
        return likely === null ? [] : [{ path: at, text: `\`file[${index}].text\` has ${whole}, which stands for nothing; did you mean {${likely}}?` }];
      });
    }),
};

/** Every rule the manifest breaks. */
export function judgeManifest(manifest: Manifest): RuleProblem[] {
  return Object.values(rules).flatMap((rule) => rule(manifest));
}

const isPlain = (path: string): boolean => /^(\/[A-Za-z0-9._-]+)+$/.test(path) && !path.split('/').some((name) => name === '.' || name === '..');
const isInside = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`);
