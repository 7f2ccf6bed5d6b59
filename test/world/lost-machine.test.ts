import { chmodSync, copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { bunPath } from './held-world.ts';
import { asleep, openFaultWorld, runCommand, until, writeApp } from './faults/fault-world.ts';
import type { FaultWorld, Ran } from './faults/fault-world.ts';
import { conduit, digestOf, saidBy, server, setSecret } from './secret-app.ts';

const repository = join(import.meta.dirname, '../..');
const operator = (...argv: string[]): Promise<Ran> => runCommand([bunPath, join(repository, 'operator/main.ts'), ...argv]);
const word = 'a word that nobody may see';

/** Whether it answers at each edgepoint as release 2 does, with its secret and its variable. */
async function servesAll(world: FaultWorld): Promise<boolean> {
  const said = await Promise.all(world.edgepoints.map(({ ipv4 }) => saidBy(ipv4, 'shop').catch(() => null)));
  return said.every((one) => one !== null && one.env === digestOf(word) && one.file === digestOf(word) && one.mark === 'green');
}

t.setTimeout(600_000); // as long as it takes on whatever machine

t.test('the whole first machine is lost: a backup brings provider, app, secrets and bills back', async (t) => {
  // Reachable for the daemons' users, which a temporary folder need not be.
  const place = mkdtempSync('/var/lib/edgepoint-lost-');
  t.teardown(() => rmSync(place, { recursive: true, force: true }));
  chmodSync(place, 0o755);
  const data = join(place, 'data');
  const file = join(place, 'edgepoint.backup');
  const key = await operator('new-key');
  const identity = join(place, 'key.txt');
  writeFileSync(identity, key.stdout, { mode: 0o600 });

  const first = await openFaultWorld(t, ['--data', data]);
  const meteringConfig = join(place, 'metering.json');
  copyFileSync(join(first.held.description.runFolder, 'daemons/metering/config.json'), meteringConfig);
  /** Of the ledger itself, whether or not anything runs. */
  const invoice = async (): Promise<string> => {
    const ran = await runCommand([bunPath, join(repository, 'metering/main.ts'), 'invoice', 'ada', '--json', '--config', meteringConfig]);
    if (ran.exitCode !== 0) throw new Error(ran.stderr);
    return ran.stdout;
  };
  const ada = await first.newProvider('ada');
  await ada.deploy(writeApp(first.folder, 'shop', { server }));
  await setSecret(first, ada, 'shop', word);
  await conduit(ada, ['env', 'set', 'MARK=green', '--app', 'shop']);
  await until('it serves with its secret and its variable', () => servesAll(first));
  const { release } = await ada.status('shop');
  await asleep(first);
  await until('its use is booked', async () => ((await ada.usage('shop'))?.requests ?? 0) > 0, 60_000);

  let bill = '';
  let made: Ran = { exitCode: null, stdout: '', stderr: '' };
  // The ledger goes on meanwhile: a bill that is the same before and after a backup is what is in it.
  await until('a backup is made between two looks at the same bill', async () => {
    bill = await invoice();
    rmSync(file, { force: true });
    made = await operator('backup', file, '--data', data, '--recipient', /public key: (age1\S+)/.exec(key.stdout)?.[1] ?? '', '--json');
    if (made.exitCode !== 0) throw new Error(made.stderr);
    return (await invoice()) === bill;
  }, 180_000);
  t.notOk(readFileSync(file).includes(word));
  t.ok(await servesAll(first), 'it serves on');
  await first.stop(t);
  rmSync(data, { recursive: true });
  t.same(readdirSync(place).toSorted(), ['edgepoint.backup', 'key.txt', 'metering.json'], 'nothing of the machine is left but what the operator kept elsewhere');

  const fromMs = performance.now();
  const restored = await operator('restore', file, '--data', data, '--identity', identity);
  t.equal(restored.exitCode, 0, restored.stderr);
  t.equal(await invoice(), bill, 'the bill is the same, to the unit');
  const second = await openFaultWorld(t, ['--data', data]);
  const again = second.withToken(ada.token);
  await until('the app serves at both edgepoints, the same release with its secret', () => servesAll(second), 120_000, 250);
  t.comment(`from the restore to the right answer at both: ${((performance.now() - fromMs) / 1000).toFixed(1)} s; the backup has ${(JSON.parse(made.stdout) as { bytes: number }).bytes} bytes`);
  t.equal((await again.status('shop')).release, release, "the provider's token works, and the release is the same");
  const before = (JSON.parse(bill) as { apps: { app: string; totals: { requests: number } }[] }).apps.find(({ app }) => app === 'shop')?.totals.requests ?? 0;
  t.ok(before > 0, `${before} requests were billed`);
  await until('what is used now comes on top', async () => ((await again.usage('shop'))?.requests ?? 0) > before, 60_000);
  await conduit(again, ['env', 'set', 'MARK=blue', '--app', 'shop']);
  t.equal((await again.status('shop')).release, release + 1, 'the next release has the next number');
  await until('and its secret', async () => {
    const said = await saidBy(second.edgepoints[0]?.ipv4 ?? '', 'shop');
    return said.mark === 'blue' && said.env === digestOf(word);
  });
  await second.stop(t);
});
