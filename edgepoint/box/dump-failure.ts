interface Meaning {
  readonly pattern: RegExp;
  readonly code: string;
  readonly text: string;
  readonly remedy: string;
}

/**
 * CRIU's last words in the provider's words. Each row: what the log says, a stable code, what it means and what to do.
 * Sources: criu/cr-dump.c, criu/files.c and criu/sk-*.c of CRIU 4.2, whose messages these are.
 */
const meanings: readonly Meaning[] = [
  { pattern: /No space left on device|ENOSPC/, code: 'disk-full', text: 'the disk of the edgepoint is full', remedy: 'Tell the operator.' },
  {
    pattern: /io_uring|anon_inode:\[io_uring\]/,
    code: 'uses-io-uring',
    text: 'the program holds an io_uring',
    remedy: 'Run it without io_uring; most runtimes have a setting for that, such as UV_USE_IO_URING=0 for Node.',
  },
  {
    pattern: /External socket is used|unix socket .* external|Can't dump half of stream unix/i,
    code: 'outside-socket',
    text: 'the program holds a unix socket whose other end is outside the instance',
    remedy: 'Close it before the app answers its probe, or speak TCP.',
  },
  {
    pattern: /fsnotify.*Can't dump that handle/i,
    code: 'watches-files',
    text: 'the program watches (inotify) a file that cannot be found again, such as one of /proc',
    remedy: 'Let it watch files of /app, /tmp, /var or /srv only, or poll.',
  },
  {
    pattern: /Can't dump ghost file/i,
    code: 'deleted-file',
    text: 'the program holds a deleted file that is too long to be snapshotted',
    remedy: 'Close such files, or make them shorter.',
  },
  {
    pattern: /Can't create link remap/i,
    code: 'renamed-link',
    text: 'the program holds a file whose name was removed while another hard link of it stays',
    remedy: 'Use rename instead of link and unlink, or close the file first.',
  },
  {
    pattern: /has bad (size|mode)/i,
    code: 'file-changed',
    text: 'a file that the program had open when it was snapshotted is another now',
    remedy: 'Open, read and close such files each time they are needed, above all those of [[file]] and of a volume.',
  },
  {
    pattern: /Can't lookup mount=.* path=\/memfd:/,
    code: 'huge-pages',
    text: 'the program holds memory of huge pages in a memfd',
    remedy: 'Run it without huge pages.',
  },
  {
    pattern: /Can't lookup mount/i,
    code: 'outside-file',
    text: 'the program holds a file of a file system that its box does not show, such as a POSIX message queue',
    remedy: 'Use a pipe, a unix socket or a file instead.',
  },
  {
    pattern: /Can't dump file .* of that type|unsupported file|Unknown shmem/i,
    code: 'unsupported-file',
    text: 'the program holds a file of a kind that cannot be snapshotted',
    remedy: 'Close it before the app answers its probe.',
  },
  { pattern: /Can't find .*tty|tty .* not supported|Found dangling tty/i, code: 'uses-terminal', text: 'the program holds a terminal', remedy: 'Run it without one.' },
  {
    pattern: /Unsupported socket|Unsupported proto|packet socket|Unknown socket/i,
    code: 'unsupported-socket',
    text: 'the program holds a socket of a kind that cannot be snapshotted',
    remedy: 'Use TCP, UDP or unix sockets.',
  },
  {
    pattern: /Unable to convert the notify thread id/i,
    code: 'thread-timer',
    text: 'the program has a timer that signals one thread (timer_create with SIGEV_THREAD or SIGEV_THREAD_ID)',
    remedy: 'Use timerfd, or a timer that signals the process; a sampling profiler is often what made it: switch it off.',
  },
  {
    pattern: /Can't make (FS|FILES|VM|SIGHAND) id/i,
    code: 'shares-with-child',
    text: 'two processes of the program share their memory, their working directory or their open files as only threads may (clone)',
    remedy: 'Use threads, or fork.',
  },
  {
    pattern: /Timeout reached\. Try to interrupt/i,
    code: 'does-not-stop',
    text: 'a process of the program did not stop within 10 s, as one that waits in vfork or in the kernel',
    remedy: 'Let children it makes by vfork execute their program at once; keep the disk and the network from hanging.',
  },
  { pattern: /already traced|Can't seize|ptrace/i, code: 'is-traced', text: 'the program is being traced, or ended while it was snapshotted', remedy: 'Run it without a debugger.' },
  {
    pattern: /Can't dump .*(sysvipc|msgque|semaphore)|SysV/i,
    code: 'uses-system-v-ipc',
    text: 'the program uses System V IPC in a way that cannot be snapshotted',
    remedy: 'Use files in /dev/shm, or unix sockets.',
  },
];

export interface DumpFailure {
  readonly code: string;
  readonly text: string;
  readonly remedy: string;
  /** The line of the log it was read from. */
  readonly evidence: string;
}

/** Reads a dump's or restore's log; the first error line that means something to a provider wins, else the first error line. */
export function explainCriuLog(log: string): DumpFailure {
  /* CRIU also complains of limits it could do without (RLIMIT_NOFILE, on machines without CAP_SYS_RESOURCE). */
  const errors = log.split('\n').filter((line) => line.includes('Error') && !line.includes('RLIMIT_NOFILE'));
  for (const line of errors) {
    const meaning = meanings.find((row) => row.pattern.test(line));
    if (meaning) return { code: meaning.code, text: meaning.text, remedy: meaning.remedy, evidence: line.trim() };
  }
  const evidence = errors[0]?.trim() ?? log.trim().split('\n').at(-1) ?? '';
  return { code: 'cannot-snapshot', text: 'the program is in a state that cannot be snapshotted', remedy: '', evidence };
}
