import { copyFileSync, chmodSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { tools } from '../../host/tools.ts';
import { runCommand } from './command.ts';
import { buildAside, extractDebian } from './debian-extract.ts';
import type { Step } from './step.ts';

const oldest = [2, 10] as const;

export const natsServer: Step = {
  name: 'nats-server',
  recipe: `nats-server >= ${oldest.join('.')}, the machine's own or Debian 13's`,
  takeOver: true,
  missing: async () => {
    const version = await natsVersion(tools.natsServer);
    if (version === null) return 'not there';
    return isNewEnough(version) ? null : `${version} is older than ${oldest.join('.')}`;
  },
  make: async (say) => {
    const own = Bun.which('nats-server', { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin' });
    const ownVersion = own === null ? null : await natsVersion(own);
    if (own !== null && ownVersion !== null && isNewEnough(ownVersion)) {
      place(own);
      return `${ownVersion}, this machine's own`;
    }
    return buildAside(async (folder) => {
      const root = join(folder, 'root');
      await extractDebian({ suite: 'trixie', packages: ['nats-server'], folder: root, say });
      place(join(root, 'usr/sbin/nats-server'));
      const why = ownVersion === null ? 'this machine has none' : `this machine's own is ${ownVersion}`;
      return `${(await natsVersion(tools.natsServer)) ?? 'unknown version'} of Debian 13, because ${why}`;
    });
  },
};

/** It is one static program, so a copy of the file is a whole installation. */
function place(source: string): void {
  copyFileSync(source, `${tools.natsServer}.new`);
  chmodSync(`${tools.natsServer}.new`, 0o755);
  renameSync(`${tools.natsServer}.new`, tools.natsServer);
}

async function natsVersion(program: string): Promise<string | null> {
  const result = await runCommand([program, '--version']);
  return /v?(\d+\.\d+\.\d+)/.exec(result.output)?.[1] ?? null;
}

function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > oldest[0] || (major === oldest[0] && minor >= oldest[1]);
}
