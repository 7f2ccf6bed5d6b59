import { join } from 'node:path';
import t from 'tap';
import { type Finding, judgeClock, judgeDisk } from '../../images/host/doctor-judges.ts';
import { tools } from '../../host/tools.ts';
import { bunPath, runProgram } from './held-world.ts';

const entry = join(import.meta.dirname, '../../images/host/doctor.ts');

type Told = Finding & { readonly name: string };

function told(stdout: string): Map<string, Told> {
  const lines = stdout.trim().split('\n').map((line) => JSON.parse(line) as Told);
  return new Map(lines.map((line) => [line.name, line]));
}

t.test('what is judged', async (t) => {
  const gibibyte = 2 ** 30;
  const disks: readonly (readonly [free: number, files: number, level: string])[] = [
    [50 * gibibyte, 1e6, 'ok'],
    [9 * gibibyte, 1e6, 'warning'],
    [gibibyte - 1, 1e6, 'failure'],
    [50 * gibibyte, 9_999, 'failure'],
  ];
  for (const [freeBytes, freeFiles, level] of disks) t.equal(judgeDisk({ freeBytes, freeFiles }).level, level, `${freeBytes} bytes, ${freeFiles} files`);
  t.equal(judgeClock(0).level, 'ok');
  t.equal(judgeClock(5).level, 'warning');
});

t.test('a machine that is ready is told so, and nothing is left', async (t) => {
  const ran = await runProgram(bunPath, [entry, '--json']);
  t.equal(ran.exitCode, 0, ran.stdout + ran.stderr);
  const findings = told(ran.stdout);
  for (const name of ['snapshots', 'cgroups', 'firewall', 'links', 'own addresses', 'private disks', 'volumes', 'programs']) t.equal(findings.get(name)?.level, 'ok', name);
  const people = await runProgram(bunPath, [entry]);
  t.match(people.stdout, /^ok +snapshots +CRIU \S+ dumped and restored a process$/m);
  t.match(await runProgram('sh', ['-c', 'ls -d /tmp/edgepoint-doctor-* /sys/fs/cgroup/*/edgepoint-doctor* /sys/fs/cgroup/edgepoint-doctor*']), { stdout: '' });
});

t.test('what is broken is named, with what to do', async (t) => {
  const breaks: readonly (readonly [name: string, script: string, text: RegExp])[] = [
    ['snapshots', `mount --bind /bin/false ${tools.criu}`, /^CRIU failed at dumping/],
    ['disk', 'mount -t tmpfs -o size=4M broken /mnt', /free$/],
    ['cgroups', 'umount -l -R /sys/fs/cgroup; mount -t tmpfs -o ro broken /sys/fs/cgroup', /^version/],
    ['programs', `mount -t tmpfs broken ${tools.baseRoot}`, /no base root/],
  ];
  for (const [name, script, text] of breaks) {
    const ran = await runProgram('unshare', ['--mount', 'sh', '-c', `${script} && exec "$@"`, 'sh', bunPath, entry, '--json', '--data-folder', '/mnt']);
    t.equal(ran.exitCode, 1, `${name}: ${ran.stderr}`);
    const finding = told(ran.stdout).get(name);
    t.match(finding, { level: 'failure', text }, name);
    t.ok(finding?.remedy, `${name}: ${finding?.remedy}`);
  }
});

t.test('wrong words and wrong people are refused', async (t) => {
  t.match(await runProgram(bunPath, [entry, '--fast']), { exitCode: 2, stderr: /--fast is not an option/ });
  t.match(await runProgram(bunPath, [entry, '--data-folder']), { exitCode: 2, stderr: /wants a folder/ });
});
