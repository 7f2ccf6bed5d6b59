/** What connection tracking knows of an instance's flows (edgepoint/box/flows.c). */
export interface FlowCount {
  /** TCP connections that stand and were not silent for long, UDP flows that went both ways for a while and lately. */
  readonly open: number;
  /** Others that had a packet in the last moment: a handshake, a first datagram. */
  readonly young: number;
}

/** By mark (its IPv4 address as a number). */
export type FlowCounts = ReadonlyMap<number, FlowCount>;

/** The process that holds packets (edgepoint/box/gate.c). Orders are carried out one after the other. */
export interface Gate {
  /** Lets what is held for an app take its way, or drops it. */
  open(app: number): void;
  drop(app: number): void;
  /** Of all instances whose marks lie in the subnet. */
  flows(subnet: { readonly mark: number; readonly mask: number }): Promise<FlowCounts>;
  /** The next packet of each flow of that mark is that of a new one; resolves when it is so. */
  forget(mark: number): Promise<void>;
  stop(): void;
}

export interface GateNews {
  /** The first packet of an app is held (`held`), or its last one was dropped because nobody took it in time. */
  held(app: number, held: boolean): void;
  /** The process has ended: what it held is lost. */
  lost(): void;
}

/** Resolves when it holds packets. Needs root, which the process gives up but for the right to the network namespace's packets. */
export async function openGate(boxProgram: string, about: { readonly queue: number; readonly holdMs: number }, news: GateNews): Promise<Gate> {
  const child = Bun.spawn([boxProgram, 'gate', `${about.queue}`, `${about.holdMs}`], { stdin: 'pipe', stdout: 'pipe', stderr: 'inherit' });
  const ready = Promise.withResolvers<void>();
  const asked: ((flows: FlowCounts) => void)[] = [];
  const forgetting: (() => void)[] = [];
  let flows = new Map<number, FlowCount>();
  let stopped = false;

  const take = (line: string): void => {
    const [word = '', ...numbers] = line.split(' ');
    const [first = 0, second = 0, third = 0] = numbers.map(Number);
    if (word === 'held' || word === 'none') news.held(first, word === 'held');
    else if (word === 'flow') flows.set(first, { open: second, young: third });
    else if (word === 'flows') {
      asked.shift()?.(flows);
      flows = new Map();
    } else if (word === 'forgot') forgetting.shift()?.();
    else if (word === 'ready') ready.resolve();
  };
  const order = (line: string): void => {
    if (stopped) return;
    void child.stdin.write(`${line}\n`);
    void child.stdin.flush();
  };
  const follow = async (): Promise<void> => {
    const decoder = new TextDecoder();
    let rest = '';
    const reader = child.stdout.getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      const lines = `${rest}${decoder.decode(next.value, { stream: true })}`.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) take(line);
    }
    ready.reject(new Error('the gate ended at once'));
    for (const answer of asked.splice(0)) answer(new Map());
    for (const answer of forgetting.splice(0)) answer();
    if (!stopped) news.lost();
  };
  void follow();
  await ready.promise;
  return {
    open: (app) => order(`go ${app}`),
    drop: (app) => order(`drop ${app}`),
    flows: ({ mark, mask }) =>
      new Promise((resolve) => {
        if (stopped) return resolve(new Map());
        asked.push(resolve);
        order(`flows ${mark} ${mask}`);
      }),
    forget: (mark) =>
      new Promise((resolve) => {
        if (stopped) return resolve();
        forgetting.push(resolve);
        order(`forget ${mark}`);
      }),
    stop: () => {
      stopped = true;
      void child.stdin.end();
    },
  };
}
