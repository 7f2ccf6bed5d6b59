import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import t from 'tap';
import { bunPath, runWorld, worldPath } from './held-world.ts';
import { tracesOf } from './traces.ts';

const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31));
const count = process.env['LONG'] ? 40 : 4;
const alphabet = 'abcdefghjkmnpqrstvwxyz';

/** A small linear congruential generator (Numerical Recipes): the moments of the kills come again with the same seed. */
let state = seed;
function next(below: number): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state % below;
}

t.test(`a world killed at any moment of its coming up leaves nothing that clean does not find (SEED=${seed})`, async (t) => {
  for (let round = 0; round < count; round += 1) {
    const id = Array.from({ length: 4 }, () => alphabet[next(alphabet.length)]).join('');
    const afterMs = next(2_500);
    const child = spawn(bunPath, [worldPath, 'up', '--port', '0', '--world', id], { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    // The moment is what is being varied, so here a fixed pause is the thing tested.
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    child.kill('SIGKILL');
    await ended;
    // Programs it had just started may make one more thing before they end; a clean-up that came too early comes again.
    let left: string[] = [];
    for (let attempt = 0; attempt < 5; attempt += 1) {
      const cleaned = await runWorld(['clean']);
      t.equal(cleaned.exitCode, 0, cleaned.stderr);
      left = tracesOf(id);
      if (left.length === 0) break;
    }
    t.same(left, [], `killed after ${afterMs} ms`);
  }
});
