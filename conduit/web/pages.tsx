/** @jsxImportSource hono/jsx */
// Said here too, because Bun finds tsconfig.json only where it may list every folder above, and a daemon may not.
import type { Child } from 'hono/jsx';
import { formatBytes, formatMs } from '../../kit/units.ts';
import type { AppAnswer, AppAtSite } from '../api/answers.ts';

export const Page = (props: { title: string; provider: string | null; renew: boolean; children?: Child }) => (
  <html lang="en">
    <head>
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width, initial-scale=1" />
      {props.renew ? (
        <noscript>
          <meta http-equiv="refresh" content="5" />
        </noscript>
      ) : null}
      <title>{props.title}</title>
      <link rel="stylesheet" href="/style.css" />
    </head>
    <body>
      {props.provider === null ? null : (
        <header>
          <h1>Edgepoint conduit</h1>
          <span class="who">
            {props.provider} · <span id="live">as of now</span>
          </span>
          <form method="post" action="/sign-out">
            <button type="submit">Sign out</button>
          </form>
        </header>
      )}
      <main>{props.children}</main>
    </body>
  </html>
);

export const SignInPage = (props: { wrong: string }) => (
  <Page title="Sign in · Edgepoint" provider={null} renew={false}>
    <div class="card sign">
      <h2>Edgepoint conduit</h2>
      <p class="about">Sign in with the token the operator gave you: the same that <code>conduit login</code> takes.</p>
      <form method="post" action="/sign-in">
        {props.wrong === '' ? null : (
          <p class="wrong" role="alert">
            {props.wrong}
          </p>
        )}
        <label for="token">Token</label>
        <input id="token" name="token" type="password" autocomplete="current-password" required maxlength={200} placeholder="ep_…" autofocus />
        <button class="first" type="submit">
          Sign in
        </button>
      </form>
    </div>
  </Page>
);

export const AppsPage = (props: { provider: string; apps: readonly AppAnswer[] }) => (
  <Page title="Apps · Edgepoint" provider={props.provider} renew={true}>
    <div id="apps" data-live="/live">
      <AppList apps={props.apps} />
    </div>
    <footer>An app costs nothing while nobody uses it: a sleeping app is only an image on disk.</footer>
    <script src="/live.js" defer></script>
  </Page>
);

export const NoSuchApp = (props: { provider: string }) => (
  <Page title="No such app · Edgepoint" provider={props.provider} renew={false}>
    <div class="card">
      <h2>You have no app of this name</h2>
      <p class="about">
        <a href="/">All your apps</a>
      </p>
    </div>
  </Page>
);

export const AppList = (props: { apps: readonly AppAnswer[] }) =>
  props.apps.length === 0 ? (
    <div class="card">
      <h2>No app yet</h2>
      <p class="about">In the folder of an app:</p>
      <pre>conduit init{'\n'}conduit deploy</pre>
    </div>
  ) : (
    <>
      {props.apps.map((app) => (
        <AppCard app={app} />
      ))}
    </>
  );

const conditionWords: Readonly<Record<AppAnswer['condition'], string>> = {
  deploying: 'being deployed',
  awake: 'awake',
  asleep: 'asleep',
  failed: 'failed',
  'partly-failed': 'failed in places',
};

export const AppCard = ({ app }: { app: AppAnswer }) => (
  <section class="card" aria-label={app.app}>
    <div class="head">
      <h2>
        <a class="name" href={`/apps/${app.app}`}>
          {app.app}
        </a>
      </h2>
      <span class={`badge ${app.condition}`}>{conditionWords[app.condition]}</span>
      <a class="go" href={app.url} rel="noreferrer">
        {app.hosts[0]}
      </a>
    </div>
    <p class="about">
      Release {app.release} · {app.offering} · {formatBytes(app.artefactBytes)} packed. {capital(app.placementReason)}.
      <br />
      State “{app.state}”: {app.stateMeaning}.
      {app.canary === null ? '' : ` Release ${app.canary.release} is a canary with ${app.canary.percent} % of the requests.`}
      {app.published ? '' : ' The message bus has not been told of the last change yet.'}
    </p>
    <div class="wide">
      <table>
        <thead>
          <tr>
            <th>Edgepoint</th>
            <th>Status</th>
            <th>Instances</th>
            <th>Wakes</th>
            <th>Cold boot</th>
            <th>Restore</th>
            <th>Template</th>
          </tr>
        </thead>
        <tbody>
          {app.sites.map((site) => (
            <SiteRow site={site} release={app.release} />
          ))}
          {app.canary?.sites.map((site) => <SiteRow site={site} release={app.canary?.release ?? 0} of="canary" />)}
        </tbody>
      </table>
    </div>
  </section>
);

const SiteRow = ({ site, release, of = '' }: { site: AppAtSite; release: number; of?: string }) => {
  const { state } = site;
  return (
    <tr>
      <td data-name="Edgepoint">
        {site.zone}/{site.edgepoint} {of}
        {site.reachable ? null : <span class="why">not heard from</span>}
      </td>
      <td data-name="Status">
        {state ? state.status : 'not begun'}
        {state && state.release !== release ? <span class="why">still release {state.release}</span> : null}
        {state?.reason ? <span class="why">{state.reason}</span> : null}
      </td>
      <td data-name="Instances" class="number">{state ? instancesText(state.instances) : '–'}</td>
      <td data-name="Wakes">
        {state && state.status !== 'failed' ? wakeWords[state.wakeBy] : '–'}
        {state?.wakeReason ? <span class="why">{state.wakeReason}</span> : null}
      </td>
      <td data-name="Cold boot" class="number">{timeText(state?.coldBootMs)}</td>
      <td data-name="Restore" class="number">{timeText(state?.restoreMs)}</td>
      <td data-name="Template" class="number">{state && state.templateBytes > 0 ? formatBytes(state.templateBytes) : '–'}</td>
    </tr>
  );
};

const wakeWords = { template: 'from its template', keep: 'where it was', cold: 'by a cold boot' } as const;

/** `2 warm, 1 asleep`; `none` when the app holds no memory at all. */
export function instancesText(instances: Readonly<Record<string, number>>): string {
  const parts = Object.entries(instances).flatMap(([mode, count]) => (count > 0 ? [`${count} ${mode}`] : []));
  return parts.length === 0 ? 'none running' : parts.join(', ');
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

const timeText = (ms: number | null | undefined): string => (ms === null || ms === undefined ? '–' : formatMs(ms));
