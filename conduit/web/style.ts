/** The page's whole style: no framework, no font to fetch; follows the reader's light or dark. */
export const style = `
:root { color-scheme: light dark; --ink: #17202b; --soft: #5b6878; --line: #dde3ea; --paper: #f6f8fa; --card: #fff; --accent: #0b6bcb;
  --awake: #12833f; --asleep: #6b5bb5; --failed: #c2321f; --work: #a86400; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --soft: #98a5b5; --line: #2a3441; --paper: #10161d; --card: #18202a; --accent: #6bb2ff;
  --awake: #52c77e; --asleep: #a99bf0; --failed: #ff8471; --work: #e8a94a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "Liberation Sans", sans-serif; }
header { display: flex; align-items: center; gap: 1rem; padding: .8rem 1.5rem; background: var(--card); border-bottom: 1px solid var(--line); }
header h1 { font-size: 1.05rem; margin: 0; letter-spacing: .01em; }
header .who { margin-left: auto; color: var(--soft); }
header form { margin: 0; }
header h1, header .who, button { white-space: nowrap; }
main { max-width: 62rem; margin: 1.5rem auto; padding: 0 1.5rem; }
a { color: var(--accent); text-underline-offset: .15em; }
button { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: .45rem; padding: .3rem .8rem; cursor: pointer; }
button.first { background: var(--accent); color: var(--card); border-color: var(--accent); padding: .5rem 1.2rem; }
button:focus-visible, input:focus-visible, a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.25rem; margin-bottom: 1rem; }
.card h2 { font-size: 1.15rem; margin: 0; }
.head { display: flex; align-items: center; gap: .75rem; flex-wrap: wrap; }
.head .go { margin-left: auto; }
.badge { font-size: .8rem; font-weight: 600; padding: .1rem .6rem; border-radius: 1rem; border: 1px solid currentColor; white-space: nowrap; }
.awake { color: var(--awake); } .asleep { color: var(--asleep); } .failed, .partly-failed { color: var(--failed); } .deploying { color: var(--work); }
.about { color: var(--soft); margin: .3rem 0 .8rem; font-size: .9rem; }
.wide { overflow-x: auto; }
.card h2 a.name { color: inherit; text-decoration-color: var(--line); }
.back { margin: 0 0 .6rem; font-size: .9rem; }
.plot { display: block; width: 100%; min-width: 40rem; height: auto; }
.plot .grid { stroke: var(--line); stroke-width: 1; }
.plot .ground { stroke: var(--soft); stroke-width: 1; }
.plot .label { fill: var(--soft); font-size: 11px; }
.plot .name { fill: var(--ink); font-size: 12px; }
.plot .bar { fill: var(--awake); opacity: .75; }
.plot .wake { fill: var(--accent); } .plot .clone { fill: var(--work); } .plot .release { fill: var(--asleep); }
.plot .fault { stroke: var(--failed); stroke-width: 2; fill: none; }
.legend { color: var(--soft); font-size: .85rem; margin: .2rem 0 .8rem; }
.legend .wake { color: var(--accent); } .legend .clone { color: var(--work); } .legend .release { color: var(--asleep); } .legend .fault { color: var(--failed); font-weight: 700; }
.legend span:not(:first-child) { margin-left: .9rem; }
@media (min-width: 44rem) { table.events td:nth-child(1) { width: 10%; } table.events td:nth-child(2) { width: 17%; } table.events td:nth-child(3) { width: 9%; } }
/* Where there is no room for all of it, now is what is seen. */
.plots { overflow-x: auto; direction: rtl; } .plots > svg { direction: ltr; }
tr.total td { font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; table-layout: fixed; }
th:nth-child(1) { width: 15%; } th:nth-child(2) { width: 27%; } th:nth-child(3) { width: 18%; }
td { overflow-wrap: anywhere; }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line); padding: .3rem .8rem .3rem 0; white-space: nowrap; }
td { border-bottom: 1px solid var(--line); padding: .4rem .8rem .4rem 0; vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td.number { font-variant-numeric: tabular-nums; }
.why { color: var(--soft); display: block; }
@media (max-width: 44rem) {
  header { padding: .6rem 1rem; } main { padding: 0 .8rem; }
  .head .go { margin-left: 0; width: 100%; }
  thead { display: none; }
  tr { display: block; padding: .4rem 0; border-bottom: 1px solid var(--line); }
  tr:last-child { border-bottom: 0; }
  td { display: grid; grid-template-columns: 6.5rem 1fr; border: 0; padding: .1rem 0; }
  td::before { content: attr(data-name); color: var(--soft); }
  td .why { grid-column: 2; }
}
.sign { max-width: 26rem; margin: 12vh auto 0; }
label { display: block; font-weight: 600; margin-bottom: .3rem; }
input { font: inherit; width: 100%; padding: .5rem .7rem; border: 1px solid var(--line); border-radius: .45rem; background: var(--paper); color: var(--ink); margin-bottom: 1rem; }
.wrong { color: var(--failed); font-weight: 600; }
code, pre { font: .88em ui-monospace, "Liberation Mono", monospace; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: .45rem; padding: .7rem 1rem; overflow-x: auto; }
footer { color: var(--soft); font-size: .85rem; text-align: center; padding: 1rem; }
`;

/** Puts each list the server sends in the place of the last one; without it the page renews itself. */
export const liveScript = `
'use strict';
const apps = document.getElementById('apps');
const live = document.getElementById('live');
const source = new EventSource(apps.dataset.live);
source.addEventListener('apps', (event) => { apps.innerHTML = JSON.parse(event.data); live.textContent = 'live'; });
source.addEventListener('error', () => { live.textContent = 'reconnecting…'; });
`;
