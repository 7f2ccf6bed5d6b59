import fc from 'fast-check';
import t from 'tap';
import { openAttempts } from '../../conduit/attempts.ts';
import { beginFollowing, endEarly, endOf, followEvent, followState, isFullyTold } from '../../conduit/follow-deploy.ts';
import { chooseCronSite, chooseUidSlot, placeApp, uidSlotMax } from '../../conduit/placement.ts';
import type { PlacementInput } from '../../conduit/placement.ts';
import { hashSecret, newToken, secretFits, splitToken } from '../../conduit/token.ts';
import { answerFailure } from '../../conduit/api/failures.ts';
import { exitCodeOf } from '../../conduit/cli/exit-codes.ts';
import { Failure } from '../../kit/errors.ts';
import type { AppState } from '../../kit/wire/edgepoint-state.ts';
import type { AppEvent } from '../../kit/wire/event.ts';

const one = { zone: 'north', edgepoint: 'one' };
const two = { zone: 'south', edgepoint: 'two' };
const volume = { name: 'storage', path: '/data', sizeMegabytes: 8, shareable: false };
const plain: PlacementInput = { manifest: { state: 'template', volume: [] }, sites: [one, two], current: [], pinned: new Map(), refusing: new Set() };

const placements: readonly (readonly [label: string, input: Partial<PlacementInput>, where: readonly string[], why: string])[] = [
  ['a stateless app', {}, ['one', 'two'], 'every edgepoint hosts it'],
  ['a shareable volume', { manifest: { state: 'template', volume: [{ ...volume, shareable: true }] } }, ['one', 'two'], 'every edgepoint hosts it; each has its own copy of the volume'],
  ['kept memory', { manifest: { state: 'keep', volume: [] } }, ['one'], 'its memory is kept (state = "keep"), so one edgepoint hosts it: north.one, which has the fewest such apps'],
  ['a volume with one writer', { manifest: { state: 'template', volume: [volume] } }, ['one'], 'its volume "storage" has one writer, so one edgepoint hosts it: north.one'],
  ['the edgepoint with the fewest such apps', { manifest: { state: 'keep', volume: [] }, pinned: new Map([['north.one', 2], ['south.two', 1]]) }, ['two'], 'its memory is kept'],
  ['it stays where its data are', { manifest: { state: 'keep', volume: [] }, current: [two], pinned: new Map([['south.two', 9]]) }, ['two'], 'its memory is kept (state = "keep"), so one edgepoint hosts it: south.two, where it is already'],
  ['also when that one is drained', { manifest: { state: 'keep', volume: [] }, current: [two], refusing: new Set(['south.two']) }, ['two'], 'its memory is kept'],
  ['a new one does not go to a drained edgepoint', { manifest: { state: 'keep', volume: [] }, refusing: new Set(['north.one']) }, ['two'], 'its memory is kept'],
  ['unless all are drained', { manifest: { state: 'keep', volume: [] }, refusing: new Set(['north.one', 'south.two']) }, ['one'], 'its memory is kept'],
  ['its edgepoint has left', { manifest: { state: 'keep', volume: [] }, current: [{ zone: 'gone', edgepoint: 'away' }] }, ['one'], 'its memory is kept'],
  ['an app that was everywhere and is kept from now on', { manifest: { state: 'keep', volume: [] }, current: [one, two], pinned: new Map([['north.one', 1]]) }, ['two'], 'its memory is kept'],
  ['no edgepoint at all', { sites: [] }, [], 'every edgepoint hosts it'],
  ['no edgepoint at all for kept memory', { sites: [], manifest: { state: 'keep', volume: [] } }, [], 'its memory is kept (state = "keep"), and there is no edgepoint'],
];

t.test('where an app goes, and why', async (t) => {
  for (const [label, input, where, why] of placements) {
    const placement = placeApp({ ...plain, ...input });
    t.same(placement.sites.map((site) => site.edgepoint), where, label);
    t.ok(placement.reason.startsWith(why), `${label}: ${placement.reason}`);
  }
});

t.test('whose clock a schedule has', async (t) => {
  const rows: readonly (readonly [label: string, hosting: readonly (typeof one)[], current: string, reachable: readonly string[], site: string])[] = [
    ['nobody had it: the first that can be reached', [one, two], '', ['north.one', 'south.two'], 'north.one'],
    ['the first cannot', [one, two], '', ['south.two'], 'south.two'],
    ['it stays where it is', [one, two], 'south.two', ['north.one', 'south.two'], 'south.two'],
    ['that one is not heard from', [one, two], 'south.two', ['north.one'], 'north.one'],
    ['nobody is, yet', [one, two], 'south.two', [], 'south.two'],
    ['nobody is, and nobody had it', [one, two], '', [], 'north.one'],
    ['that one hosts it no more', [one], 'south.two', ['north.one', 'south.two'], 'north.one'],
    ['nobody hosts it', [], 'south.two', ['south.two'], ''],
  ];
  for (const [label, hosting, current, reachable, site] of rows) t.equal(chooseCronSite({ hosting, current, reachable: new Set(reachable) }), site, label);
});

t.test('uid slots', async (t) => {
  t.equal(chooseUidSlot(new Set(), []), 1);
  t.equal(chooseUidSlot(new Set([1, 2]), []), 3);
  t.equal(chooseUidSlot(new Set([1]), [2, 3]), 4, 'one never used goes before one freed');
  const full = new Set(Array.from({ length: uidSlotMax }, (_, index) => index + 1));
  t.equal(chooseUidSlot(full, []), null);
  full.delete(7);
  full.delete(9);
  t.equal(chooseUidSlot(full, [9, 7]), 9, 'the one freed longest ago');
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 60 })), fc.array(fc.integer({ min: 1, max: 60 })), (taken, freed) => {
      const slot = chooseUidSlot(new Set(taken), freed);
      return slot !== null && slot >= 1 && slot <= uidSlotMax && !taken.includes(slot);
    }),
  );
});

t.test('tokens', async (t) => {
  const bytes = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, index) => index * 7);
  const token = newToken(bytes);
  t.match(token.text, /^ep_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$/);
  const parts = splitToken(token.text);
  t.equal(parts?.id, token.id);
  t.ok(secretFits(parts?.secret ?? '', token.hash));
  t.notOk(secretFits('x'.repeat(43), token.hash));
  t.notOk(secretFits(parts?.secret ?? '', ''), 'a damaged row lets nobody in');
  t.notOk(token.hash.includes(parts?.secret ?? ''), 'the secret is not stored');
  t.equal(hashSecret('a'), 'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb');
  for (const bad of ['', 'ep_', token.text.slice(0, -1), `${token.text}A`, `${token.text} `, token.text.replace('ep_', 'EP_')]) t.equal(splitToken(bad), null);
});

t.test('failed attempts are counted over a window, and the count is bounded', async (t) => {
  const attempts = openAttempts({ failuresMax: 2, windowMs: 1000, keysMax: 3 });
  attempts.failed('a', 0);
  t.equal(attempts.waitMs('a', 10), 0);
  attempts.failed('a', 100);
  t.equal(attempts.waitMs('a', 200), 800);
  t.equal(attempts.waitMs('b', 200), 0);
  t.equal(attempts.waitMs('a', 1000), 0, 'the window is over');
  for (const key of ['b', 'c', 'd']) attempts.failed(key, 300);
  t.equal(attempts.waitMs('a', 300), 0, 'the oldest key gave way');
});

const event = (site: typeof one, stage: string, more: Partial<AppEvent> = {}): AppEvent => ({
  ...site, provider: 'ada', scope: 'main', app: 'hello', release: 2, deployId: 'd', kind: 'deploy', stage, text: `${stage} it is`, code: '', tookMs: null, figures: {}, wallMs: 0, report: null, built: null, ...more,
});
const state = (release: number, status: 'preparing' | 'ready' | 'failed'): AppState => ({
  provider: 'ada', scope: 'main', app: 'hello', release, status, wakeBy: 'template', wakeReason: '', reason: 'it would not', state: 'template', instances: {}, templateBytes: 0, templateAt: '', coldBootMs: 900, restoreMs: 30,
});

t.test('a deploy ends when each hosting edgepoint has ended', async (t) => {
  const begun = beginFollowing(2, [one, two]);
  const half = followEvent(begun, event(one, 'ready', { figures: { coldBootMs: 800, restoreMs: 20 } }));
  t.equal(endOf(half), null);
  t.equal(endOf(followEvent(half, event(two, 'boot'))), null);
  t.equal(endOf(followEvent(half, event({ zone: 'x', edgepoint: 'y' }, 'ready'))), null, 'one that does not host it says nothing');
  t.equal(endOf(followState(half, two, state(1, 'ready'))), null, 'the release before says nothing');
  t.equal(endOf(followState(half, two, state(2, 'preparing'))), null);
  t.match(endOf(followEvent(half, event(two, 'ready'))), { outcome: 'ready', text: 'ready at all 2 edgepoints', sites: [{ coldBootMs: 800, restoreMs: 20 }, { coldBootMs: null }] });
  t.match(endOf(followState(half, two, state(2, 'ready'))), { outcome: 'ready', sites: [{ restoreMs: 20 }, { restoreMs: 30 }] });
  t.match(endOf(followEvent(half, event(two, 'failed'))), { outcome: 'partly-ready', text: 'ready at 1 of 2 edgepoints; failed at south.two (failed it is)' });
  t.match(endOf(followState(followEvent(begun, event(one, 'failed')), two, state(2, 'failed'))), { outcome: 'failed', text: 'failed: failed it is' });
  const bare = followEvent(begun, event(one, 'ready'));
  t.notOk(isFullyTold(bare), 'its figures are still to come');
  t.ok(isFullyTold(followState(bare, one, state(2, 'ready'))));
  const cold = followEvent(begun, event(one, 'ready', { figures: { coldBootMs: 700, restoreMs: 0 } }));
  t.ok(isFullyTold(cold), 'an app without a snapshot has no restore to wait for');
  t.match(endOf(followEvent(cold, event(two, 'failed'))), { sites: [{ coldBootMs: 700, restoreMs: null }] });
  t.match(endOf(beginFollowing(1, [])), { outcome: 'failed' });
  t.match(endEarly(half, 'timeout', 'late'), { outcome: 'timeout', sites: [{ outcome: 'ready' }, { outcome: 'unknown' }] });
});

t.test('what is not a Failure is not told to the world', async (t) => {
  t.match(answerFailure(new Error('the password is x')), { status: 500, answer: { code: 'unexpected' } });
  t.notMatch(JSON.stringify(answerFailure(new Error('the password is x'))), /password/);
  t.match(answerFailure(new Failure('name-taken', 'taken', { remedy: 'another' })), { status: 409, answer: { code: 'name-taken', message: 'taken', remedy: 'another' } });
  t.equal(answerFailure(new Failure('archive-link', 'x')).status, 422);
});

t.test('exit codes', async (t) => {
  for (const [code, exit] of [['command-line', 2], ['token-wrong', 3], ['archive-bomb', 4], ['manifest-invalid', 4], ['app-unknown', 5], ['conduit-unreachable', 6], ['deploy-failed', 1], ['anything', 1]] as const) t.equal(exitCodeOf(code), exit, code);
});
