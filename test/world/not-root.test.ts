import { join } from 'node:path';
import t from 'tap';
import { bunPath, runProgram, worldPath } from './held-world.ts';

const repository = join(import.meta.dirname, '../..');
const nobody = 65_534;

t.test('who is not root is told so in one sentence, with exit code 2', async (t) => {
  for (const entry of ['world.ts', 'images/host/main.ts', 'bench/main.ts']) {
    const ran = await runProgram('sh', [join(repository, 'images/host/bootstrap.sh'), entry], { uid: nobody });
    t.equal(ran.exitCode, 2, entry);
    t.match(ran.stderr, /must run as root/, entry);
    t.equal(ran.stderr.trim().split('\n').length, 1, entry);
  }
});

t.test('a world started past the bootstrap refuses as well', async (t) => {
  const ran = await runProgram(bunPath, [worldPath, 'up', '--port', '0'], { uid: nobody });
  t.equal(ran.exitCode, 2);
  t.match(ran.stderr, /must be started as root/);
});
