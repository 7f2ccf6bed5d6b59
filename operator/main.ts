import { Command } from 'commander';
import { Failure, messageOf } from '../kit/errors.ts';
import { formatBytes } from '../kit/units.ts';
import { makeBackup } from './backup.ts';
import { newKey } from './keys.ts';
import { restoreBackup } from './restore.ts';

/** What an operator does about a whole installation, on the machine that holds its data folder. */
const program = new Command('npm run operator --').description('Backups of an installation, and what is restored from them.').showHelpAfterError('(--help lists all options)');
const say = (line: string): void => console.error(line);
const several = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

program
  .command('new-key')
  .description('print a new key for backups: keep it apart from the machine; with its public part backups are made')
  .action(async () => {
    const { file, recipient } = await newKey();
    process.stdout.write(file);
    say(`Backups are made with --recipient ${recipient}`);
  });

program
  .command('backup')
  .description('write ledger, desired state, artefacts and keys into one encrypted file, while everything runs')
  .argument('<file>', 'the file to make')
  .requiredOption('--data <folder>', 'the data folder of the installation')
  .option('--recipient <key>', 'encrypt for this public key (age1...); may be given several times', several)
  .option('--passphrase-file <file>', 'encrypt with the passphrase in the first line of this file')
  .option('--json', 'print the result as JSON')
  .action(async (file: string, { data, json, ...keys }: { data: string; json?: boolean; recipient?: string[]; passphraseFile?: string }) => {
    const { bytes, sha256, manifest } = await makeBackup({ ...keys, dataFolder: data, file, nowWallMs: Date.now(), progress: say });
    const { files, leftOut } = manifest;
    if (json === true) return console.log(JSON.stringify({ file, bytes, sha256, files: files.length, leftOut }));
    console.log(`${file}: ${files.length} files, ${formatBytes(bytes)}, sha256 ${sha256}`);
    if (leftOut.length > 0) console.log(`Not in it:\n  ${leftOut.join('\n  ')}`);
  });

program
  .command('restore')
  .description('make a data folder of a backup; the folder must be empty or absent')
  .argument('<file>', 'the backup')
  .requiredOption('--data <folder>', 'the folder to make')
  .option('--identity <file>', 'the file that new-key printed')
  .option('--passphrase-file <file>', 'the passphrase is the first line of this file')
  .option('--json', 'print the result as JSON')
  .action(async (file: string, { data, json, ...keys }: { data: string; json?: boolean; identity?: string; passphraseFile?: string }) => {
    const { files, madeWallMs } = await restoreBackup({ ...keys, dataFolder: data, file, progress: say });
    if (json === true) return console.log(JSON.stringify({ data, files: files.length, madeWallMs }));
    console.log(`${data} is as it was on ${new Date(madeWallMs).toISOString()}: ${files.length} files.`);
  });

try {
  await program.parseAsync();
} catch (thrown) {
  say(`operator: ${messageOf(thrown)}`);
  if (thrown instanceof Failure && thrown.remedy !== '') say(`What to do: ${thrown.remedy}`);
  process.exitCode = 1;
}
