/** @jsxImportSource hono/jsx */
// Said here too, because Bun finds tsconfig.json only where it may list every folder above, and a daemon may not.
import { formatMs, microsPerUnit } from '../../kit/units.ts';
import type { AppEvent } from '../../kit/wire/event.ts';
import { isCanary } from '../../kit/ids.ts';
import type { UsageReport } from '../../kit/wire/usage.ts';
import type { AppAnswer, CapsAnswer } from '../api/answers.ts';
import { AppCard, Page } from './pages.tsx';
import { TimelinePlot } from './plot.tsx';
import type { Timeline } from './timeline.ts';

export interface AppShown {
  readonly app: AppAnswer;
  /** Null while the message bus is away. */
  readonly timeline: Timeline | null;
  /** Null when metering does not answer. */
  readonly usage: UsageReport | null;
  readonly caps: CapsAnswer;
}

export const AppPage = ({ provider, shown }: { provider: string; shown: AppShown }) => (
  <Page title={`${shown.app.app} · Edgepoint`} provider={provider} renew={true}>
    <p class="back">
      <a href="/">All apps</a>
    </p>
    <div id="apps" data-live={`/apps/${shown.app.app}/live`}>
      <AppBody shown={shown} />
    </div>
    <script src="/live.js" defer></script>
  </Page>
);

export const AppBody = ({ shown: { app, timeline, usage, caps } }: { shown: AppShown }) => (
  <>
    <AppCard app={app} />
    <section class="card" aria-label="What happened">
      <h2>{timeline === null ? 'What happened' : `The last ${spanText(timeline)}`}</h2>
      {timeline === null ? <p class="about">The message bus is away; what happened is shown again when it is back.</p> : <Happened timeline={timeline} />}
    </section>
    <section class="card" aria-label="Cost">
      <h2>What it has cost</h2>
      <ThisMonth app={app.app} caps={caps} />
      {usage === null ? <p class="about">Metering does not answer now; nothing is lost.</p> : <Cost usage={usage} />}
    </section>
  </>
);

const spanText = ({ fromWallMs, toWallMs }: Timeline): string => {
  const minutes = Math.round((toWallMs - fromWallMs) / 60_000);
  return minutes === 60 ? 'hour' : `${minutes} minutes`;
};

const Happened = ({ timeline }: { timeline: Timeline }) => {
  const { wakes, happened } = timeline;
  return (
    <>
      <p class="about">
        {wakes.count === 0 ? 'It was not woken.' : `Woken or cloned ${wakes.count === 1 ? 'once' : `${wakes.count} times`}: half within ${formatMs(wakes.p50Ms ?? 0)}, 95 % within ${formatMs(wakes.p95Ms ?? 0)}.`} Bars are instances that hold memory. Times are UTC.
      </p>
      <div class="plots">
        <TimelinePlot timeline={timeline} />
      </div>
      <p class="legend">
        <span class="wake">●</span> woken <span class="clone">■</span> cloned <span class="release">▲</span> release ready <span class="fault">×</span> fault
      </p>
      {happened.length === 0 ? null : (
        <div class="wide">
          <table class="events">
            <tbody>
              {happened.map((event) => (
                <EventRow event={event} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
};

const EventRow = ({ event }: { event: AppEvent }) => (
  <tr>
    <td data-name="At" class="number">{new Date(event.wallMs).toISOString().slice(11, 19)}</td>
    <td data-name="Edgepoint">
      {event.zone}/{event.edgepoint}
    </td>
    <td data-name="What" class={event.kind === 'fault' || event.stage === 'failed' ? 'failed' : ''}>
      {event.stage === '' ? event.kind : event.stage}
    </td>
    <td data-name="Text">{event.text}</td>
  </tr>
);

const Cost = ({ usage }: { usage: UsageReport }) =>
  usage.lines.length === 0 ? (
    <p class="about">Nothing has been used yet, so nothing is charged.</p>
  ) : (
    <div class="wide">
      <table>
        <tbody>
          {usage.lines.map((line) => (
            <tr>
              <td data-name="Charge">{isCanary(line) ? `${line.charge} (canary)` : line.charge}</td>
              <td data-name="Used" class="number">
                {line.quantity.toLocaleString('en', { maximumFractionDigits: 3 })} {line.unit}
              </td>
              <td data-name="Amount" class="number">{money(line.amountMicros, usage.currency)}</td>
            </tr>
          ))}
          <tr class="total">
            <td data-name="Charge">together</td>
            <td />
            <td data-name="Amount" class="number">{money(usage.totalMicros, usage.currency)}</td>
          </tr>
        </tbody>
      </table>
    </div>
  );

const ThisMonth = ({ app, caps: { month, currency, apps, all } }: { app: string; caps: CapsAnswer }) => {
  const own = apps.find((one) => one.app === app);
  const against = (name: string, { micros, capMicros }: { micros: number; capMicros: number | null }): string =>
    `${name}: ${money(micros, currency)}${capMicros === null ? '' : `, of a cap of ${money(capMicros, currency)}`}.`;
  return (
    <p class="about" data-name="Month">
      In {month} so far (UTC). {own === undefined ? '' : against('This app', own)} {against('All apps', all)}
      {own === undefined || own.stopped === '' ? null : <strong class="failed"> It is not served: {own.stopped}.</strong>}
    </p>
  );
};

const money = (micros: number, currency: string): string => `${(micros / microsPerUnit).toFixed(6)} ${currency}`;
