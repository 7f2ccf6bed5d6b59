import t from 'tap';
import { beatsDemanded, defaultRules, firstPulse, onBeat, onTick } from '../../global-dispatcher/health.ts';
import type { Pulse } from '../../global-dispatcher/health.ts';

const second = 1_000_000_000;
const rules = defaultRules;

/** Plays a line of half seconds: `.` a tick, `b` a beat and a tick, `x` a tick with the bus away, `B` the bus coming back; returns the liveness of each as `a` or `s`. */
function play(line: string, from: Pulse = firstPulse(0), startNs = 0): { text: string; pulse: Pulse; nowNs: number } {
  let pulse = from;
  let busUpSinceNs: number | null = 0;
  let nowNs = startNs;
  let text = '';
  for (const mark of line) {
    nowNs += second / 2;
    if (mark === 'x') busUpSinceNs = null;
    else if (mark === 'B') busUpSinceNs = nowNs;
    if (mark === 'b') pulse = onBeat(pulse, nowNs, rules);
    pulse = onTick(pulse, nowNs, busUpSinceNs, rules);
    text += pulse.liveness === 'alive' ? 'a' : 's';
  }
  return { text, pulse, nowNs };
}

t.test('three missed beats and it is silent; the first one after and it is alive', async (t) => {
  const beaten = '...b...b';
  t.equal(play(`${beaten}...........`).text, `${'a'.repeat(8)}aaaaaaaaaaa`, 'the third beat is not overdue before 6 s');
  t.equal(play(`${beaten}.............`).text, `${'a'.repeat(8)}aaaaaaaaaaaas`, 'at 6.5 s it is');
  t.equal(play(`${beaten}..............b...b`).text.slice(-5), 'aaaaa');
  t.equal(play(`${beaten}..............b...b`).text, `${'a'.repeat(8)}aaaaaaaaaaaass${'a'.repeat(5)}`);
});

t.test('one never heard counts as alive for three intervals', async (t) => {
  t.equal(play('.............').text, 'aaaaaaaaaaaas');
});

t.test('one that flaps must beat ever longer before it is trusted, and a calm one is forgiven', async (t) => {
  let pulse = firstPulse(0);
  let nowNs = 0;
  const demands: number[] = [];
  for (let round = 0; round < 7; round += 1) {
    ({ pulse, nowNs } = play('.............', pulse, nowNs));
    t.equal(pulse.liveness, 'silent');
    demands.push(beatsDemanded(pulse, rules));
    for (let beats = 1; pulse.liveness === 'silent'; beats += 1) {
      ({ pulse, nowNs } = play('...b', pulse, nowNs));
      if (pulse.liveness === 'alive') t.equal(beats, demands[round], `round ${round}`);
    }
  }
  t.strictSame(demands, [1, 2, 4, 8, 16, 16, 16]);
  for (let beats = 0; beats < 152; beats += 1) ({ pulse, nowNs } = play('...b', pulse, nowNs));
  t.equal(pulse.silences, 0);
});

t.test('beats of a silent one with a gap between do not add up', async (t) => {
  const distrusted: Pulse = { ...firstPulse(0), liveness: 'silent', silences: 2, beatsInRow: 0 };
  t.equal(play('b.............b', distrusted).pulse.liveness, 'silent');
  t.equal(play('b...b', distrusted).pulse.liveness, 'alive');
});

t.test('while the bus is away nobody falls silent, and after it everybody has three intervals', async (t) => {
  t.equal(play(`b${'x'.repeat(60)}B............`).text, 'a'.repeat(74));
  t.match(play(`b${'x'.repeat(60)}B.............`).text, /a{74}s$/);
});
