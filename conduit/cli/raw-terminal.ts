import { spawn } from 'node:child_process';
import { once } from 'node:events';

/**
 * Puts this process's terminal into raw mode: every key goes to the program at the other end. The returned function puts it right. A shell
 * beside this process does the same should this one be killed, which nobody can do for itself: it waits for the end of its stdin, and
 * knows by a line there that nothing is left to be done.
 */
const keeper = `trap '' INT QUIT TSTP TTOU TTIN HUP TERM
saved=$(stty -g </dev/tty) || exit 0
echo ready
read -r line && exit 0
stty "$saved" </dev/tty`;

export async function enterRawMode(): Promise<() => void> {
  const child = spawn('/bin/sh', ['-c', keeper], { stdio: ['pipe', 'pipe', 'ignore'] });
  child.on('error', () => undefined); // without a shell the terminal is put right by all but a SIGKILL
  child.stdin.on('error', () => undefined);
  await Promise.race([once(child.stdout, 'data'), once(child.stdout, 'end'), once(child, 'error')]);
  process.stdin.setRawMode(true);
  let isRaw = true;
  const leave = (): void => {
    if (!isRaw) return;
    isRaw = false;
    process.stdin.setRawMode(false);
    child.stdin.write('done\n');
    child.unref();
  };
  process.once('exit', leave);
  return leave;
}
