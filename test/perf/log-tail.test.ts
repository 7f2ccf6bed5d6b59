import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';

interface Heard {
  instance?: string;
  text?: string;
  fault?: string;
  done?: string;
  freed?: boolean;
  offset?: number;
  bytes?: number;
  cpuMs?: number;
}

/** A follower of its own, told things line by line. */
class Follower {
  readonly #child = spawn(join(process.cwd(), 'node_modules/.bin/bun'), ['test/perf/log-follower.ts'], { stdio: ['pipe', 'pipe', 'inherit'] });
  readonly heard: Heard[] = [];

  constructor() {
    let rest = '';
    this.#child.stdout.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop() ?? '';
      this.heard.push(...lines.map((line) => JSON.parse(line) as Heard));
    });
  }

  async tell(line: string): Promise<void> {
    const told = this.heard.filter(({ done }) => done === line).length;
    this.#child.stdin.write(`${line}\n`);
    await this.until(`it did: ${line}`, () => this.heard.filter(({ done }) => done === line).length > told);
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    const deadline = performance.now() + 10_000;
    while (!holds()) {
      if (performance.now() > deadline) throw new Error(`waited in vain: ${what}; heard ${JSON.stringify(this.heard).slice(0, 2000)}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  said(instance: string): string {
    return this.heard.filter((heard) => heard.instance === instance).map(({ text }) => text ?? '').join('');
  }

  async stop(): Promise<void> {
    this.#child.stdin.end();
    if (this.#child.exitCode === null) await new Promise((resolve) => this.#child.once('exit', resolve));
  }
}

async function withFolder(place: string, story: (folder: string, follower: Follower) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(place, 'edgepoint-test-log-'));
  const follower = new Follower();
  try {
    await story(folder, follower);
  } finally {
    await follower.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

for (const { name, place, view } of [
  { name: 'on a disk', place: tmpdir(), view: '' },
  { name: 'on a tmpfs', place: '/dev/shm', view: '' },
  { name: 'through the root of a process', place: '/dev/shm', view: `/proc/${process.pid}/root` },
]) {
  t.test(`lines are heard as they are written, ${name}`, async (t) => {
    await withFolder(place, async (folder, follower) => {
      const path = join(folder, 'app.log');
      writeFileSync(path, 'of the template\n');
      await follower.tell(`follow shop ${view}${path} ${'of the template\n'.length}`);
      appendFileSync(path, 'one\ntw');
      await follower.until('the first line', () => follower.said('shop') === 'one\n');
      appendFileSync(path, 'o\nthree\n');
      await follower.until('lines that came in parts', () => follower.said('shop') === 'one\ntwo\nthree\n');
      appendFileSync(path, 'last words');
      await follower.tell('ended shop');
      t.equal(follower.said('shop'), 'one\ntwo\nthree\nlast words\n', 'an end within a line is heard at the end');
    });
  });
}

t.test('no line waits for the next one, however close they come', async (t) => {
  await withFolder('/dev/shm', async (folder, follower) => {
    const path = join(folder, 'app.log');
    writeFileSync(path, '');
    await follower.tell(`follow shop ${path} 0`);
    let written = '';
    for (let pair = 0; pair < 50; pair += 1) {
      for (const line of [`a${pair}\n`, `b${pair}\n`]) {
        appendFileSync(path, line);
        written += line;
        const wait = performance.now() + (pair % 10) / 5; // up to 1.8 ms
        while (performance.now() < wait);
      }
      await follower.until(`pair ${pair}`, () => follower.said('shop') === written);
    }
    t.equal(follower.said('shop'), written);
  });
});

t.test('a flood passes at its rate with a note of what was dropped, and its space is given back', async (t) => {
  await withFolder('/dev/shm', async (folder, follower) => {
    const path = join(folder, 'app.log');
    writeFileSync(path, '');
    await follower.tell(`follow shop ${path} 0`);
    const line = `${'x'.repeat(99)}\n`;
    for (let part = 0; part < 30; part += 1) appendFileSync(path, line.repeat(10_000));
    await follower.until('a note', () => /dropped here; an app may write 64\.0 KiB/.test(follower.said('shop')));
    appendFileSync(path, 'after\n');
    await follower.tell('ended shop');
    const said = follower.said('shop');
    t.ok(said.length < 1_000_000, `${said.length} of 30,000,000 bytes passed`);
    const freed = follower.heard.filter(({ freed }) => freed !== undefined);
    t.ok(freed.length > 0 && freed.every(({ freed }) => freed), 'holes were punched');
    t.ok(statSync(path).size > 30_000_000, 'the file keeps its size, for the app goes on writing at its end');
    t.ok(statSync(path).blocks * 512 < 12_000_000, `${statSync(path).blocks * 512} bytes are left of it`);
  });
});

t.test('an app cannot have a file of the machine read as its log', async (t) => {
  await withFolder(tmpdir(), async (folder, follower) => {
    symlinkSync('/etc/passwd', join(folder, 'link.log'));
    symlinkSync('/etc', join(folder, 'folder'));
    writeFileSync(join(folder, 'good.log'), 'good\n');
    for (const path of ['link.log', 'folder/passwd', '.', 'absent.log']) await follower.tell(`follow shop ${folder}/${path} 0`);
    await follower.tell(`follow shop /proc/${process.pid}/root${folder}/link.log 0`);
    t.equal(follower.heard.filter(({ fault }) => fault !== undefined).length, 5);
    t.equal(follower.said('shop'), '');
    await follower.tell(`follow shop ${folder}/good.log 0`);
    await follower.until('a good one is still heard', () => follower.said('shop') === 'good\n');
  });
});

t.test('a log that is silent costs nothing', async (t) => {
  await withFolder(tmpdir(), async (folder, follower) => {
    for (let place = 0; place < 50; place += 1) {
      writeFileSync(join(folder, `${place}.log`), '');
      await follower.tell(`follow app-${place} ${folder}/${place}.log 0`);
    }
    await follower.tell('cpu');
    const before = follower.heard.findLast(({ cpuMs }) => cpuMs !== undefined)?.cpuMs ?? 0;
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await follower.tell('cpu');
    const after = follower.heard.findLast(({ cpuMs }) => cpuMs !== undefined)?.cpuMs ?? 0;
    t.ok(after - before < 50, `${(after - before).toFixed(1)} ms of CPU in 1.5 s with 50 silent logs`);
    t.ok(existsSync(folder) && readFileSync(join(folder, '0.log'), 'utf8') === '');
  });
});
