import t from 'tap';
import { explainCriuLog } from '../../edgepoint/box/dump-failure.ts';

/* Lines as CRIU 4.2.1 wrote them when an instance held the thing. */
const table: readonly { readonly holds: string; readonly line: string; readonly code: string }[] = [
  { holds: 'a POSIX message queue', line: "(00.011733) Error (criu/files-reg.c:1790): Can't lookup mount=266 for fd=3 path=/queue", code: 'outside-file' },
  { holds: 'a Landlock rule set', line: "(00.010712) Error (criu/files-ext.c:94): Can't dump file 3 of that type [600] (anon anon_inode:[landlock-ruleset])", code: 'unsupported-file' },
  { holds: 'a seccomp listener', line: "(00.010712) Error (criu/files-ext.c:94): Can't dump file 3 of that type [600] (anon anon_inode:seccomp notify)", code: 'unsupported-file' },
  { holds: 'a huge-page memfd', line: "(00.010712) Error (criu/files-reg.c:1790): Can't lookup mount=18 for fd=3 path=/memfd:huge (deleted)", code: 'huge-pages' },
  { holds: 'a Multipath TCP socket', line: '(00.009) Error (criu/sk-inet.c:137): inet: Unsupported proto 262 for socket 685c9', code: 'unsupported-socket' },
  { holds: 'an io_uring', line: "(00.010712) Error (criu/files-ext.c:94): Can't dump file 17 of that type [600] (anon anon_inode:[io_uring])", code: 'uses-io-uring' },
  { holds: 'an inotify on /proc', line: "(00.01) Error (criu/fsnotify.c:284): fsnotify: \tCan't dump that handle", code: 'watches-files' },
  { holds: 'a long deleted file', line: "(00.01) Error (criu/files-reg.c:1031): Can't dump ghost file /var/deleted of 4194304 size, increase limit", code: 'deleted-file' },
  { holds: 'secret memory', line: '(00.01) Error (criu/proc_parse.c:502): Unknown shit 100600 (/secretmem (deleted))', code: 'cannot-snapshot' },
  { holds: 'a file with another hard link', line: "(00.01) Error (criu/files-reg.c:1122): Can't create link remap for /var/one. Use link-remap option.", code: 'renamed-link' },
  { holds: 'a timer of one thread', line: '(00.01) Error (criu/timer.c:329): Unable to convert the notify thread id 5933', code: 'thread-timer' },
  { holds: 'descriptors shared with a child', line: "(00.01) Error (criu/cr-dump.c:676): Can't make FS id for 5797", code: 'shares-with-child' },
  { holds: 'memory shared with a child', line: "(00.01) Error (criu/cr-dump.c:669): Can't make VM id for 5820", code: 'shares-with-child' },
  { holds: 'a child in vfork', line: '(10.01) Error (criu/cr-dump.c:1655): Timeout reached. Try to interrupt: 0', code: 'does-not-stop' },
  { holds: 'a full disk', line: "(00.01) Error (criu/page-xfer.c:329): page-xfer: Unable to spice data: No space left on device", code: 'disk-full' },
];

for (const { holds, line, code } of table) {
  t.test(holds, async (t) => {
    const around = `(00.000001) Warn  (criu/kerndat.c:1): something\n(00.002) Error (criu/cr-restore.c:9): Can't set RLIMIT_NOFILE\n${line}\n(00.02) Error (criu/cr-dump.c:2128): Dumping FAILED.\n`;
    const failure = explainCriuLog(around);
    t.equal(failure.code, code);
    t.equal(failure.evidence, line.trim(), 'the line that says so is the evidence');
    if (code !== 'cannot-snapshot') t.match(failure.remedy, /^[A-Z].{8,}\.$/, 'and says what to do');
    t.ok(failure.text.length > 20 && !failure.text.includes('criu/'), 'the text is for people');
  });
}

t.test('logs that say little', async (t) => {
  t.match(explainCriuLog(''), { code: 'cannot-snapshot', evidence: '' });
  t.match(explainCriuLog('sh: 1: criu: not found'), { code: 'cannot-snapshot', evidence: 'sh: 1: criu: not found' });
  t.match(explainCriuLog('(1) Error (a.c:1): first\n(2) Error (a.c:2): second'), { evidence: '(1) Error (a.c:1): first' }, 'the first error is nearest to the cause');
  t.match(explainCriuLog("(1) Error (a.c:1): unknown\n(2) Error (b.c:2): Unsupported proto 9 for socket 1"), { code: 'unsupported-socket' }, 'a line that means something wins');
});
