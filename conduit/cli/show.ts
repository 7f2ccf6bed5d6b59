import { formatBytes, formatMs, microsPerUnit } from '../../kit/units.ts';
import { isCanary } from '../../kit/ids.ts';
import type { UsageReport } from '../../kit/wire/usage.ts';
import { readSchedule } from '../../kit/schedule.ts';
import type { AppState, CronState } from '../../kit/wire/edgepoint-state.ts';
import type { AppAnswer, AppAtSite, EnvAnswer, ReleasesAnswer, SecretsAnswer } from '../api/answers.ts';
import { columns, harmless } from './terminal.ts';
import type { Terminal } from './terminal.ts';

const conditionColours = { deploying: 'yellow', awake: 'green', asleep: 'blue', failed: 'red', 'partly-failed': 'red' } as const;

export function showApps(apps: readonly AppAnswer[], terminal: Terminal): void {
  if (apps.length === 0) return terminal.say('No app yet. In the folder of an app: `conduit init`, then `conduit deploy`.');
  const rows = apps.map((app) => [app.app, app.condition, `release ${app.release}`, instancesText(app), app.url]);
  const [head = '', ...lines] = columns([['APP', 'IS', 'RELEASE', 'INSTANCES', 'ADDRESS'], ...rows]);
  terminal.say(terminal.paint('dim', head));
  lines.forEach((line, index) => {
    const condition = apps[index]?.condition ?? 'asleep';
    terminal.say(line.replace(condition, terminal.paint(conditionColours[condition], condition)));
  });
}

export function showStatus(app: AppAnswer, terminal: Terminal): void {
  terminal.say(`${terminal.paint('bold', app.app)}  ${terminal.paint(conditionColours[app.condition], app.condition)}  ${app.url}`);
  const facts = [
    ['release', `${app.release}, ${formatBytes(app.artefactBytes)}, deployed ${new Date(app.deployedWallMs).toISOString()}`],
    ['offering', app.offering],
    ['state', `${app.state}: ${app.stateMeaning}`],
    ['where', app.placementReason],
    ...(app.certificate === null ? [] : [['https', certificateText(app.certificate)]]),
    ...(app.published ? [] : [['note', 'the message bus has not been told of the last change yet']]),
  ];
  for (const line of columns(facts)) terminal.say(`  ${line}`);
  for (const site of app.sites) showSite(site, app.release, terminal);
  if (app.canary === null) return;
  terminal.say(`\n${terminal.paint('bold', 'canary')}  release ${app.canary.release}, ${app.canary.percent} % of the requests`);
  for (const site of app.canary.sites) showSite(site, app.canary.release, terminal);
}

function certificateText({ untilWallMs, code, text }: NonNullable<AppAnswer['certificate']>): string {
  const until = untilWallMs === null ? 'no certificate yet' : `certificate until ${new Date(untilWallMs).toISOString()}`;
  return code === '' ? until : `${until} (${code}: ${harmless(text)})`;
}

export function showReleases({ releases }: ReleasesAnswer, terminal: Terminal): void {
  const isOf = (one: ReleasesAnswer['releases'][number]): string => (one.current ? 'serves' : one.canaryPercent !== null ? `canary, ${one.canaryPercent} %` : one.kept ? 'kept' : '');
  const rows = releases.map((one) => [`${one.release}`, isOf(one), formatBytes(one.artefactBytes), new Date(one.createdWallMs).toISOString(), one.artefactDigest.slice(0, 19), one.about || 'deploy']);
  const [head = '', ...lines] = columns([['RELEASE', '', 'SIZE', 'DEPLOYED', 'ARTEFACT', 'BY'], ...rows]);
  terminal.say(terminal.paint('dim', head));
  lines.forEach((line, index) => terminal.say(releases[index]?.current ? terminal.paint('green', line) : line));
}

export function showEnv({ variables }: EnvAnswer, terminal: Terminal): void {
  if (variables.length === 0) return terminal.say('No variable is set, neither by `[env]` of the manifest nor by `conduit env set`.');
  showRows(['NAME', 'FROM', 'VALUE'], variables.map(({ name, from, value }) => [name, from, harmless(value.replaceAll('\n', '\\n'))]), terminal);
}

export function showSecrets({ secrets }: SecretsAnswer, terminal: Terminal): void {
  if (secrets.length === 0) return terminal.say('No secret is set.');
  showRows(['NAME', 'SINCE RELEASE', 'SET'], secrets.map(({ name, release, setWallMs }) => [name, `${release}`, new Date(setWallMs).toISOString()]), terminal);
}

function showRows(heads: readonly string[], rows: readonly (readonly string[])[], terminal: Terminal): void {
  const [head = '', ...lines] = columns([heads, ...rows]);
  terminal.say(terminal.paint('dim', head));
  for (const line of lines) terminal.say(line);
}

const templatePlaces: Readonly<Record<AppState['templateAt'], string>> = {
  '': '',
  disk: ', on the disk',
  store: ', in the object store',
  both: ', on the disk and in the object store',
};

function showSite(site: AppAtSite, release: number, terminal: Terminal): void {
  const { state } = site;
  terminal.say(`\n  ${terminal.paint('bold', `${site.zone}/${site.edgepoint}`)}  ${state?.status ?? 'not begun'}${site.reachable ? '' : '  (not heard from)'}`);
  if (!state) return;
  const facts = [
    ...(state.release === release ? [] : [['release', `still ${state.release}`]]),
    ['instances', modesText(state)],
    ...(state.status === 'failed' ? [] : [['wakes', `${{ template: 'from its template', keep: 'where it was', cold: 'by a cold boot' }[state.wakeBy]}${state.wakeReason ? ` (${harmless(state.wakeReason)})` : ''}`]]),
    ...(state.reason ? [[state.status === 'failed' ? 'failed' : 'awake', harmless(state.reason)]] : []),
    ...(state.own === undefined ? [] : [['own address', ownText(state.own)]]),
    ...(state.coldBootMs === null ? [] : [['cold boot', formatMs(state.coldBootMs)]]),
    ...(state.restoreMs === null ? [] : [['restore', formatMs(state.restoreMs)]]),
    ...(state.templateBytes > 0 ? [['template', `${formatBytes(state.templateBytes)}${templatePlaces[state.templateAt]}`]] : []),
    ...(state.cron ?? []).map((task) => ['cron', cronText(task, Date.now())]),
  ];
  for (const line of columns(facts)) terminal.say(`    ${line}`);
}

/** `POST /tasks/tidy at "0 4 * * *" (UTC): next 2026-11-30 04:00; last 2026-11-29 04:00, it answered 200 after 12 ms` */
export function cronText({ schedule, path, method, last }: CronState, nowWallMs: number): string {
  const minute = (wallMs: number): string => new Date(wallMs).toISOString().slice(0, 16).replace('T', ' ');
  const read = readSchedule(schedule);
  const next = read.ok ? read.schedule.next(nowWallMs) : null;
  const said = last === null ? 'not yet due' : `last ${minute(last.dueWallMs)}, ${last.ok ? '' : 'FAILED: '}${harmless(last.text)}`;
  return `${method} ${harmless(path)} at "${harmless(schedule)}" (UTC): ${next === null ? 'never again' : `next ${minute(next)}`}; ${said}`;
}

function ownText({ ipv4, ipv6, ports }: NonNullable<AppState['own']>): string {
  return `${[ipv6, ipv4].filter((address) => address !== '').join(', ')}: ${ports.map(({ protocol, port, ipv4Port }) => `${protocol} ${port}${ipv4Port === undefined ? '' : ` (by IPv4 ${ipv4Port})`}`).join(', ')}`;
}

function modesText(state: AppState): string {
  const parts = Object.entries(state.instances).flatMap(([mode, count]) => (count > 0 ? [`${count} ${mode}`] : []));
  if (parts.length > 0) return parts.join(', ');
  return state.status === 'ready' ? 'none: it is only an image on disk' : 'none';
}

function instancesText(app: AppAnswer): string {
  const sums = new Map<string, number>();
  for (const site of app.sites) for (const [mode, count] of Object.entries(site.state?.instances ?? {})) sums.set(mode, (sums.get(mode) ?? 0) + count);
  const parts = [...sums].flatMap(([mode, count]) => (count > 0 ? [`${count} ${mode}`] : []));
  return parts.length === 0 ? '-' : parts.join(', ');
}

export function showUsage(report: UsageReport, terminal: Terminal): void {
  if (report.lines.length === 0) return terminal.say('Nothing has been used yet, so nothing is charged.');
  const rows = report.lines.map((line) => [
    isCanary(line) ? `${line.app} (canary)` : line.app,
    line.charge,
    `${figure(line.quantity)} ${line.unit}`,
    `${money(line.priceMicros, report.currency)} per ${figure(line.per)}`,
    money(line.amountMicros, report.currency),
  ]);
  const [head = '', ...lines] = columns([['APP', 'CHARGE', 'USED', 'PRICE', 'AMOUNT'], ...rows]);
  terminal.say(terminal.paint('dim', head));
  for (const line of lines) terminal.say(line);
  terminal.say(terminal.paint('bold', `total ${money(report.totalMicros, report.currency)}`));
}

const figure = (value: number): string => (Number.isInteger(value) ? value.toLocaleString('en') : value.toLocaleString('en', { maximumFractionDigits: 3 }));
const money = (micros: number, currency: string): string => `${(micros / microsPerUnit).toFixed(6)} ${currency}`;
