import t from 'tap';
import { openEngine } from '../restored/engine.ts';
import { runtimesRoot } from './application.ts';
import { applications } from './applications.ts';
import { describeRows, journey, type Row } from './journey.ts';

t.setTimeout(240_000);

/* Any Linux application: each boots, answers, sleeps five times with each `state`, and goes on as its `state` says. */
t.test('the matrix of applications', { timeout: 300_000 }, async (t) => {
  const engine = await openEngine(t, { baseRoot: runtimesRoot() });
  const rows: Row[] = [];
  const only = process.env['ONLY'];
  for (const application of applications(runtimesRoot())) {
    if (only && !application.name.includes(only)) continue;
    await t.test(application.name, async (t) => void rows.push(await journey(t, engine, application)));
    for (const instance of await engine.list()) await engine.stop(instance.instance);
  }
  await engine.nothingRemains(t, 'nothing remains');
  for (const line of describeRows(rows)) t.comment(line);
});
