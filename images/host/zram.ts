import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { readZramSwap } from '../../host/zram.ts';
import { messageOf } from '../../kit/errors.ts';
import { formatBytes } from '../../kit/units.ts';
import { requireCommand, runCommand } from './command.ts';
import { chosenOf } from './huge-pages.ts';
import type { Step } from './step.ts';

/**
 * Swap on compressed memory, where the frozen tier puts what an idle instance holds: decision 110. It is gone after a reboot, and the
 * next set-up makes it again. To undo: `swapoff /dev/zramN && echo N > /sys/class/zram-control/hot_remove`.
 */
const control = '/sys/class/zram-control';
/** Ahead of any other swap of the machine. */
const priority = 100;
/** Of the machine's memory: what may be put there, and what it may hold of it compressed. */
const sizeShare = 1 / 2;
const heldShare = 1 / 4;

/** The fastest to read back of those that the kernel offers; empty when it has none of them, and its own choice stays. */
export function chooseAlgorithm(offered: string): string {
  const names = offered.replaceAll(/[[\]]/g, '').split(/\s+/);
  return ['lz4', 'lzo-rle', 'lzo'].find((name) => names.includes(name)) ?? '';
}

function memoryBytes(): number {
  return Number(/^MemTotal:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0) * 1024;
}

/** Loads the module where zram is one; false on a kernel without. */
async function kernelHasZram(): Promise<boolean> {
  if (!existsSync(control)) await runCommand(['modprobe', 'zram', 'num_devices=0']);
  return existsSync(`${control}/hot_add`);
}

async function makeSwap(): Promise<string> {
  /* A device of our own, for the ones that are there may be somebody's. Reading hot_add makes one and says its number. */
  const number = readFileSync(`${control}/hot_add`, 'utf8').trim();
  const settings = `/sys/block/zram${number}`;
  try {
    const algorithm = chooseAlgorithm(readFileSync(`${settings}/comp_algorithm`, 'utf8'));
    if (algorithm !== '') writeFileSync(`${settings}/comp_algorithm`, algorithm);
    const sizeBytes = Math.floor(memoryBytes() * sizeShare);
    const heldBytes = Math.floor(memoryBytes() * heldShare);
    writeFileSync(`${settings}/disksize`, `${sizeBytes}`);
    writeFileSync(`${settings}/mem_limit`, `${heldBytes}`);
    const undo = `to undo: swapoff /dev/zram${number} && echo ${number} > ${control}/hot_remove`;
    await requireCommand(['mkswap', `/dev/zram${number}`], 'zram', undo);
    await requireCommand(['swapon', '--priority', `${priority}`, `/dev/zram${number}`], 'zram', undo);
    const used = chosenOf(readFileSync(`${settings}/comp_algorithm`, 'utf8'));
    return `swap on /dev/zram${number} (${used}, ${formatBytes(sizeBytes)}, of which ${formatBytes(heldBytes)} held at most), until the next boot; ${undo}`;
  } catch (error) {
    writeFileSync(`${control}/hot_remove`, number);
    throw error;
  }
}

export const zram: Step = {
  name: 'swap on compressed memory',
  recipe: `${priority} ${sizeShare} ${heldShare}`,
  takeOver: true,
  missing: async () => {
    if (readZramSwap() !== null || !(await kernelHasZram())) return null;
    return 'there is none, so frozen instances would give no memory back';
  },
  make: async () => {
    if (readZramSwap() !== null) return 'found here, and it works'; // of another recipe: it may be in use, and stays
    try {
      return await makeSwap();
    } catch (error) {
      return `there is none, so idle instances are not frozen but put to sleep: ${messageOf(error)}`; // a container
    }
  },
};
