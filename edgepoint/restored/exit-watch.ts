/** Tells when processes end, also those that are not children of this one: through `edgepoint-box watch`. */
export interface ExitWatch {
  watch(pid: number): void;
  stop(): void;
}

export function openExitWatch(boxProgram: string, onExit: (pid: number) => void, onLost: () => void): ExitWatch {
  const child = Bun.spawn([boxProgram, 'watch'], { stdin: 'pipe', stdout: 'pipe', stderr: 'inherit' });
  let stopped = false;
  void (async (): Promise<void> => {
    const decoder = new TextDecoder();
    let held = '';
    const reader = child.stdout.getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      held += decoder.decode(next.value, { stream: true });
      const lines = held.split('\n');
      held = lines.pop() ?? '';
      for (const line of lines) onExit(Number(line));
    }
    if (!stopped) onLost();
  })();
  return {
    watch(pid: number): void {
      void child.stdin.write(`${pid}\n`);
      void child.stdin.flush();
    },
    stop(): void {
      stopped = true;
      void child.stdin.end();
    },
  };
}
