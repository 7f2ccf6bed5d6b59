import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure, codeOf } from '../../kit/errors.ts';
import { buildLineSchema } from '../api/answers.ts';
import type { BuildLine, DeployAnswer } from '../api/answers.ts';
import type { Client, Upload } from './client.ts';
import type { FolderLook, Recognised } from './recognise.ts';
import { harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

export function lookInto(folder: string): FolderLook {
  return {
    has: (name) =>
      access(join(folder, name)).then(
        () => true,
        () => false,
      ),
    async read(name) {
      try {
        return await readFile(join(folder, name), 'utf8');
      } catch (thrown) {
        if (['ENOENT', 'EISDIR', 'ENOTDIR'].includes(codeOf(thrown))) return null;
        throw thrown;
      }
    },
  };
}

/** Sends a source folder, shows what its build does and writes, and gives what then became of it; throws a Failure when it was not built. */
export async function sendForBuild(conduit: Client, app: string, about: { upload: Upload; recognised: Recognised; canary?: number | undefined }, terminal: Terminal): Promise<DeployAnswer> {
  const canary = about.canary === undefined ? '' : `&canary=${about.canary}`;
  for await (const line of conduit.lines(`/apps/${app}/builds?install=${about.recognised.install}${canary}`, buildLineSchema, about.upload)) {
    if (line.type === 'beat') continue;
    if (line.type === 'release') {
      terminal.progress('');
      return line.release;
    }
    terminal.tell(line);
    showBuildLine(line, terminal);
  }
  throw new Failure('progress-cut', 'the conduit ended the progress before the build was done', { remedy: 'Nothing was released. Deploy again.' });
}

/** Shows a line of a build; one that ends it without success is a Failure. */
export function showBuildLine(line: BuildLine, terminal: Terminal): void {
  if (line.type === 'build') terminal.say(`it is built at ${line.build.site.zone}/${line.build.site.edgepoint} (${line.build.siteReason})`);
  else if (line.type === 'note') terminal.say(terminal.paint('yellow', harmless(line.text)));
  else if (line.type === 'output') {
    for (const text of line.text.replace(/\n$/, '').split('\n')) terminal.say(`  ${terminal.paint('dim', '|')} ${harmless(text)}`);
  } else if (line.type === 'event') {
    terminal.say(`  ${terminal.paint('blue', line.event.stage.padEnd(8))}  ${harmless(line.event.text)}`);
  } else if (line.type === 'end') {
    terminal.progress('');
    throw new Failure(line.code === '' ? 'build-failed' : line.code, harmless(line.text), { remedy: 'Nothing was released.' });
  }
}
