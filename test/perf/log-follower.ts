/** Run by Bun: follows the logs of instances named on stdin (`follow NAME PATH OFFSET`, `ended NAME`) and prints what it hears as lines of JSON. */
import { createInterface } from 'node:readline';
import { openClock } from '../../host/clock.ts';
import { openLogFile, punchHole } from '../../edgepoint/perf/log-file.ts';
import { followLogs } from '../../edgepoint/perf/log-tail.ts';

const say = (heard: unknown): void => console.log(JSON.stringify(heard));
const tails = followLogs({
  clock: openClock(),
  openLogFile,
  onChunk: ({ instance, text }) => say({ instance, text }),
  onFault: (instance, failure) => say({ instance, fault: failure instanceof Error ? failure.message : String(failure) }),
  free: ({ fd, offset, bytes }) => say({ freed: fd !== null && punchHole(fd, offset, bytes), offset, bytes }),
});
for await (const line of createInterface({ input: process.stdin })) {
  const [word, name = '', path = '', offset = 'end'] = line.split(' ');
  if (word === 'follow') tails.follow({ instance: name, owner: { provider: 'acme', scope: 'main', app: name }, release: 1, logPath: path }, offset === 'end' ? 'end' : Number(offset));
  if (word === 'ended') tails.ended(name);
  if (word === 'cpu') say({ cpuMs: process.cpuUsage().user / 1000 + process.cpuUsage().system / 1000 });
  say({ done: line });
}
tails.stop();
