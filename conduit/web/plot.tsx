/** @jsxImportSource hono/jsx */
// Said here too, because Bun finds tsconfig.json only where it may list every folder above, and a daemon may not.
import { formatMs } from '../../kit/units.ts';
import type { Lane, Mark, Timeline } from './timeline.ts';

/** In units of the drawing, which takes the width it is given. */
const width = 900;
const left = 130;
const right = 12;
const laneHeight = 64;
const barsHeight = 34;
const tookHeight = 130;
const axisHeight = 22;
/** Of the plot of how long wakes took, logarithmic. */
const tookMinMs = 1;
const tookMaxMs = 10_000;
const minuteMs = 60_000;

/** Instances awake at each edgepoint, what happened, and how long wakes took, over the same time. */
export const TimelinePlot = ({ timeline }: { timeline: Timeline }) => {
  const { lanes, fromWallMs, toWallMs, wakes } = timeline;
  const x = (wallMs: number): number => round(left + ((wallMs - fromWallMs) / (toWallMs - fromWallMs)) * (width - left - right));
  const lanesHeight = lanes.length * laneHeight;
  const height = lanesHeight + axisHeight + tookHeight + axisHeight;
  const most = Math.max(1, ...lanes.flatMap(({ awake }) => awake.map(({ count }) => count)));
  const summary = wakes.count === 0 ? 'no wakes' : `${wakes.count} wakes, half of them within ${formatMs(wakes.p50Ms ?? 0)}`;
  return (
    <svg class="plot" viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`The last ${Math.round((toWallMs - fromWallMs) / minuteMs)} minutes: ${summary}`}>
      {ticksOf(fromWallMs, toWallMs).map((wallMs) => (
        <>
          <line class="grid" x1={x(wallMs)} x2={x(wallMs)} y1={0} y2={height - axisHeight} />
          <text class="label" x={x(wallMs)} y={height - 6} text-anchor="middle">
            {new Date(wallMs).toISOString().slice(11, 16)}
          </text>
        </>
      ))}
      {lanes.map((lane, index) => (
        <LanePlot lane={lane} top={index * laneHeight} most={most} x={x} end={toWallMs} />
      ))}
      <TookPlot lanes={lanes} top={lanesHeight + axisHeight} x={x} />
    </svg>
  );
};

const LanePlot = ({ lane, top, most, x, end }: { lane: Lane; top: number; most: number; x: (wallMs: number) => number; end: number }) => {
  const ground = top + laneHeight - 16;
  const high = (count: number): number => round((count / most) * barsHeight);
  return (
    <>
      <text class="name" x={0} y={ground - 4}>
        {lane.name}
      </text>
      <line class="ground" x1={left} x2={width - right} y1={ground} y2={ground} />
      {lane.awake.map(({ wallMs, count }, index) => {
        const from = x(wallMs);
        const wide = Math.max(1, round(x(lane.awake[index + 1]?.wallMs ?? end) - from));
        return count === 0 ? null : (
          <rect class="bar" x={from} y={ground - high(count)} width={wide} height={high(count)}>
            <title>{`${count} awake`}</title>
          </rect>
        );
      })}
      {lane.marks.map((mark) => (
        <MarkPlot mark={mark} x={x(mark.wallMs)} y={ground + 7} />
      ))}
    </>
  );
};

const MarkPlot = ({ mark, x, y }: { mark: Mark; x: number; y: number }) => {
  const title = <title>{mark.text}</title>;
  if (mark.kind === 'wake') return <circle class="mark wake" cx={x} cy={y} r={3.5}>{title}</circle>;
  if (mark.kind === 'clone') return <rect class="mark clone" x={x - 3} y={y - 3} width={6} height={6}>{title}</rect>;
  if (mark.kind === 'deploy') return <path class="mark release" d={`M${x - 5} ${y + 4}h10l-5 -9z`}>{title}</path>;
  return <path class="mark fault" d={`M${x - 4} ${y - 4}l8 8m0 -8l-8 8`}>{title}</path>;
};

const TookPlot = ({ lanes, top, x }: { lanes: readonly Lane[]; top: number; x: (wallMs: number) => number }) => {
  const y = (ms: number): number => {
    const share = Math.log(Math.min(tookMaxMs, Math.max(tookMinMs, ms)) / tookMinMs) / Math.log(tookMaxMs / tookMinMs);
    return round(top + tookHeight - share * (tookHeight - 10));
  };
  return (
    <>
      <text class="name" x={0} y={top + 22}>
        wakes took
      </text>
      {[1, 10, 100, 1000, 10_000].map((ms) => (
        <>
          <line class="grid" x1={left} x2={width - right} y1={y(ms)} y2={y(ms)} />
          <text class="label" x={left - 8} y={y(ms) + 4} text-anchor="end">
            {ms < 1000 ? `${ms} ms` : `${ms / 1000} s`}
          </text>
        </>
      ))}
      {lanes.flatMap(({ marks }) =>
        marks.flatMap((mark) =>
          mark.tookMs === null ? [] : [
            <circle class={`mark ${mark.kind}`} cx={x(mark.wallMs)} cy={y(mark.tookMs)} r={3}>
              <title>{mark.text}</title>
            </circle>,
          ],
        ),
      )}
    </>
  );
};

/** Whole minutes of the hour, so that no more than ten labels stand beside one another. */
function ticksOf(fromWallMs: number, toWallMs: number): number[] {
  const stepMs = [1, 5, 10, 30, 60].map((minutes) => minutes * minuteMs).find((ms) => (toWallMs - fromWallMs) / ms <= 10) ?? 60 * minuteMs;
  const ticks: number[] = [];
  for (let at = Math.ceil(fromWallMs / stepMs) * stepMs; at <= toWallMs; at += stepMs) ticks.push(at);
  return ticks;
}

const round = (value: number): number => Math.round(value * 10) / 10;
