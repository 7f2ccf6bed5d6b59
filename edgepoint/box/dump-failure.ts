/**
 * CRIU's last words in the provider's words. Each row: what the log says, a stable code, what it means and what to do.
 * Sources: criu/cr-dump.c, criu/files.c and criu/sk-*.c of CRIU 4.2, whose messages these are.
 */
const meanings: readonly { readonly pattern: RegExp; readonly code: string; readonly text: string }[] = [
  { pattern: /No space left on device|ENOSPC/, code: 'disk-full', text: 'the disk of the edgepoint is full' },
  { pattern: /io_uring|anon_inode:\[io_uring\]/, code: 'uses-io-uring', text: 'the program holds an io_uring, which cannot be snapshotted; run it without io_uring' },
  { pattern: /External socket is used|unix socket .* external|Can't dump half of stream unix/i, code: 'outside-socket', text: 'the program holds a unix socket whose other end is outside the instance' },
  { pattern: /fsnotify.*Can't dump that handle/i, code: 'watches-files', text: 'the program watches (inotify) a file that cannot be found again, such as one of /proc' },
  { pattern: /Can't dump ghost file/i, code: 'deleted-file', text: 'the program holds a deleted file that is too long to be snapshotted' },
  { pattern: /Can't dump file .* of that type|unsupported file|Unknown shmem|Can't lookup mount/i, code: 'unsupported-file', text: 'the program holds a file of a kind that cannot be snapshotted' },
  { pattern: /Can't find .*tty|tty .* not supported|Found dangling tty/i, code: 'uses-terminal', text: 'the program holds a terminal; run it without one' },
  { pattern: /Unsupported socket|Unsupported proto|packet socket|Unknown socket/i, code: 'unsupported-socket', text: 'the program holds a socket of a kind that cannot be snapshotted' },
  { pattern: /already traced|Can't seize|ptrace/i, code: 'is-traced', text: 'the program is being traced, or ended while it was snapshotted' },
  { pattern: /Can't dump .*(sysvipc|msgque|semaphore)|SysV/i, code: 'uses-system-v-ipc', text: 'the program uses System V IPC in a way that cannot be snapshotted' },
];

export interface DumpFailure {
  readonly code: string;
  readonly text: string;
  /** The line of the log it was read from. */
  readonly evidence: string;
}

/** Reads a dump's or restore's log; the first error line that means something to a provider wins, else the first error line. */
export function explainCriuLog(log: string): DumpFailure {
  /* CRIU also complains of limits it could do without (RLIMIT_NOFILE, on machines without CAP_SYS_RESOURCE). */
  const errors = log.split('\n').filter((line) => line.includes('Error') && !line.includes('RLIMIT_NOFILE'));
  for (const line of errors) {
    const meaning = meanings.find((row) => row.pattern.test(line));
    if (meaning) return { code: meaning.code, text: meaning.text, evidence: line.trim() };
  }
  const evidence = errors[0]?.trim() ?? log.trim().split('\n').at(-1) ?? '';
  return { code: 'cannot-snapshot', text: 'the program is in a state that cannot be snapshotted', evidence };
}
