import t from 'tap';
import { makeArtefact } from './app.ts';
import { openEngine } from './engine.ts';

const serve = `require('http').createServer((_, answer) => answer.end('{"ok":1}')).listen(8080, '0.0.0.0');`;
const graceMs = 6000;
/** The machine is shared; what is waited for in vain takes all of the grace. */
const soonMs = 4000;

/** How SIGTERM is met, and how long the program works on then. */
const programs: readonly { name: string; onTerm: string; closingMs: number }[] = [
  // Node's own handler puts the default back, which the first process of a pid namespace does not die of.
  { name: 'no-handler', onTerm: '', closingMs: 0 },
  { name: 'ends-at-once', onTerm: `process.on('SIGTERM', () => process.exit(0));`, closingMs: 0 },
  { name: 'closes-slowly', onTerm: `process.on('SIGTERM', () => setTimeout(() => process.exit(0), 800));`, closingMs: 800 },
  // `once` takes the handler away as it is called, and the program works on.
  { name: 'handler-once', onTerm: `process.once('SIGTERM', () => { const fromMs = Date.now(); while (Date.now() - fromMs < 600); process.exit(0); });`, closingMs: 600 },
];

t.test('an instance that is ended is given time as long as it may be using it', async (t) => {
  const engine = await openEngine(t);
  for (const { name, onTerm, closingMs } of programs) {
    const artefactPath = makeArtefact(engine.folder, name, { 'server.js': `${serve}\n${onTerm}\n` });
    const instance = await engine.boot(engine.order(name, { artefactPath }));
    await engine.run(instance, '');
    const fromMs = Date.now();
    t.match(await engine.stop(name, graceMs), { cpuNs: Number }, `${name}: its last counters come`);
    const tookMs = Date.now() - fromMs;
    t.ok(tookMs >= closingMs, `${name}: it closed for ${closingMs} ms, and was left to for ${tookMs}`);
    t.ok(tookMs < soonMs, `${name}: it took ${tookMs} ms of ${graceMs}`);
    await engine.nothingRemains(t, `${name}: nothing is left`);
  }
});
