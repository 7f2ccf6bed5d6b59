/** @jsxImportSource hono/jsx */
// Said here too, because Bun finds tsconfig.json only where it may list every folder above, and a daemon may not.
import { Hono } from 'hono';
import type { Context } from 'hono';
import { deleteCookie, getCookie, setCookie } from 'hono/cookie';
import { bodyLimit } from 'hono/body-limit';
import type { AppAnswer } from '../api/answers.ts';
import { answerFailure } from '../api/failures.ts';
import { streamLines, whenGone } from '../api/lines.ts';
import type { Environment } from '../api/ports.ts';
import type { SignIn } from '../api/sign-in.ts';
import { sessionMs } from '../store/accounts.ts';
import type { AccountStore, Speaker } from '../store/accounts.ts';
import { AppBody, AppPage } from './app-page.tsx';
import type { AppShown } from './app-page.tsx';
import { AppList, AppsPage, NoSuchApp, SignInPage } from './pages.tsx';
import { liveScript, style } from './style.ts';

export interface WebPorts {
  readonly accounts: AccountStore;
  readonly signIn: SignIn;
  readonly appsOf: (provider: string) => Promise<readonly AppAnswer[]>;
  /** The app as it is now, or null when the speaker has none of that name; with what happened to it, until `gone`. */
  readonly openApp: (speaker: Speaker, app: string, onChange: () => void) => Promise<OpenedApp | null>;
  /** Calls back after each change of what the page shows; returns what stops it. */
  readonly onChange: (callback: () => void) => () => void;
  readonly randomBytes: (count: number) => Uint8Array;
  readonly wallMs: () => number;
}

/** An app that a page shows: what happens to it is followed until `stop`. */
export interface OpenedApp {
  shown(): Promise<AppShown | null>;
  stop(): void;
}

const cookieName = 'edgepoint-session';
/** However fast things change, a page is sent anew at most this often. */
const renewMs = 250;
/** The page of an app is sent anew at least so often, for its plot ends with now. */
const passMs = 15_000;
const pagesMax = 200;

export function webRoutes(ports: WebPorts): Hono<Environment> {
  const web = new Hono<Environment>();
  type Ask = Context<Environment>;
  const speakerOf = async (c: Ask): Promise<Speaker | null> => {
    const text = getCookie(c, cookieName);
    return text === undefined ? null : ports.accounts.findSession(text, ports.wallMs());
  };
  let pages = 0;

  web.use('*', async (c, next) => {
    await next();
    for (const [name, value] of Object.entries(securityHeaders)) c.header(name, value);
  });
  // A form of another site cannot act in the reader's name: SameSite keeps the cookie away, and the origin must be ours.
  web.post('*', bodyLimit({ maxSize: 4096, onError: (c) => c.text('too long', 413) }), async (c, next) => {
    const origin = c.req.header('origin');
    if (origin !== undefined && origin !== 'null' && URL.parse(origin)?.host !== c.req.header('host')) return c.text('this form was sent from another site', 403);
    await next();
  });

  web.get('/', async (c) => {
    const speaker = await speakerOf(c);
    if (!speaker) return c.html(<SignInPage wrong="" />);
    return c.html(<AppsPage provider={speaker.provider} apps={await ports.appsOf(speaker.provider)} />);
  });

  web.post('/sign-in', async (c) => {
    const { token } = await c.req.parseBody();
    try {
      const speaker = await ports.signIn.byToken(typeof token === 'string' ? token.trim() : '', c.env.address);
      const text = await ports.accounts.openSession(speaker, ports.randomBytes, ports.wallMs());
      setCookie(c, cookieName, text, { httpOnly: true, sameSite: 'Strict', path: '/', maxAge: sessionMs / 1000, secure: c.req.header('x-forwarded-proto') === 'https' });
      return c.redirect('/', 303);
    } catch (thrown) {
      const { status, answer } = answerFailure(thrown);
      if (status !== 401 && status !== 429) throw thrown;
      return c.html(<SignInPage wrong={`${answer.message.charAt(0).toUpperCase()}${answer.message.slice(1)}.`} />, status);
    }
  });

  web.post('/sign-out', async (c) => {
    const text = getCookie(c, cookieName);
    if (text !== undefined) await ports.accounts.endSession(text);
    deleteCookie(c, cookieName, { path: '/' });
    return c.redirect('/', 303);
  });

  /** Sends what `render` says now, and again after each change; `open` begins to follow changes and returns what ends it. */
  const live = (c: Ask, open: (changed: () => void) => Promise<() => void>, render: () => Promise<string | null>): Response => {
    if (pages >= pagesMax) return c.text('too many pages are open', 503);
    pages += 1;
    const body = streamLines({
      encode: (line) => (line === null ? ': beat\n\n' : `event: apps\ndata: ${JSON.stringify(line)}\n\n`),
      beat: null,
      async produce(writer) {
        let due: NodeJS.Timeout | undefined;
        const send = async (): Promise<void> => {
          const text = await render();
          if (text === null) writer.end();
          else writer.send(text);
        };
        const changed = (): void => {
          due ??= setTimeout(() => {
            due = undefined;
            send().catch(() => writer.end());
          }, renewMs);
        };
        whenGone(writer, () => {
          pages -= 1;
          clearTimeout(due);
        });
        const stop = await open(changed);
        whenGone(writer, stop);
        if (!writer.gone.aborted) await send();
      },
    });
    return c.body(body, 200, { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' });
  };

  web.get('/live', async (c) => {
    const speaker = await speakerOf(c);
    if (!speaker) return c.text('sign in first', 401);
    return live(
      c,
      async (changed) => ports.onChange(changed),
      async () => String(<AppList apps={await ports.appsOf(speaker.provider)} />),
    );
  });

  web.get('/apps/:app', async (c) => {
    const speaker = await speakerOf(c);
    if (!speaker) return c.redirect('/', 303);
    const opened = await ports.openApp(speaker, c.req.param('app'), () => undefined);
    try {
      const shown = (await opened?.shown()) ?? null;
      return shown === null ? c.html(<NoSuchApp provider={speaker.provider} />, 404) : c.html(<AppPage provider={speaker.provider} shown={shown} />);
    } finally {
      opened?.stop();
    }
  });

  web.get('/apps/:app/live', async (c) => {
    const speaker = await speakerOf(c);
    if (!speaker) return c.text('sign in first', 401);
    const name = c.req.param('app');
    let opened: OpenedApp | null = null;
    return live(
      c,
      async (changed) => {
        opened = await ports.openApp(speaker, name, changed);
        const stopListening = ports.onChange(changed);
        // Time passes also when nothing happens.
        const passing = setInterval(changed, passMs);
        return () => {
          clearInterval(passing);
          stopListening();
          opened?.stop();
        };
      },
      async () => {
        const shown = (await opened?.shown()) ?? null;
        return shown === null ? null : String(<AppBody shown={shown} />);
      },
    );
  });

  web.get('/style.css', (c) => c.body(style, 200, { 'content-type': 'text/css; charset=utf-8' }));
  web.get('/live.js', (c) => c.body(liveScript, 200, { 'content-type': 'text/javascript; charset=utf-8' }));
  return web;
}

const securityHeaders: Readonly<Record<string, string>> = {
  'content-security-policy': "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
};
