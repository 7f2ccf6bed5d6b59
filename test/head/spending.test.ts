import t from 'tap';
import { spendingBeatMessage } from '../../kit/wire/spending.ts';
import { spendingBeatSubject } from '../../kit/wire/subjects.ts';
import { encodeMessage } from '../../kit/wire/version.ts';
import { startRig, until } from './rig.ts';

const shop = { provider: 'prov', scope: 'main', app: 'shop' };
const manifest = { scale: { min: 1, idleSeconds: 1 } };
const untilWallMs = Date.UTC(2100, 0, 1);
const capped = (reason: string | null) => ({ capped: { stopped: reason === null ? null : { reason, untilWallMs } } });

t.test('a cap that is reached puts an app to sleep when its last request is answered, also after a kill, and lifted it wakes', async (t) => {
  const rig = await startRig(t);
  const wish = (reason: string | null): Promise<void> => rig.deploy('shop', manifest, 1, undefined, undefined, capped(reason));
  await wish(null);
  await rig.ended('shop');
  await until('it is awake', () => rig.dispatcher.route('shop')?.instances.length === 1);
  const [instance] = rig.dispatcher.route('shop')?.instances ?? [];
  const finish = rig.dispatcher.begin(shop, instance?.instance ?? '');
  await wish('its spending cap for 2099-12 is reached');
  await until('the dispatcher hears of it', () => rig.dispatcher.route('shop')?.stop?.code === 'spending-cap-reached');
  t.match(rig.dispatcher.route('shop'), { status: 'failed', stop: { untilWallMs } });
  t.ok(rig.machine.instances.has(instance?.instance ?? ''), 'what is under way is waited for');
  await until('the provider is told', () => rig.events.some(({ code, text }) => code === 'spending-cap-reached' && text.includes('2099-12')));
  finish();
  await until('then it sleeps', () => rig.machine.instances.size === 0);
  await rig.killHead('SIGKILL');
  await rig.startHead();
  await until('a restarted head knows it', () => rig.dispatcher.route('shop')?.stop?.code === 'spending-cap-reached');
  t.equal(rig.machine.instances.size, 0, 'and wakes nothing, whatever `min` wants');
  const stages = rig.events.filter(({ kind }) => kind === 'deploy').length;
  await wish(null);
  await until('it is served again', () => rig.dispatcher.route('shop')?.status === 'ready' && rig.dispatcher.route('shop')?.instances.length === 1);
  t.equal(rig.events.filter(({ kind }) => kind === 'deploy').length, stages, 'and nothing is prepared anew');
});

t.test('where nobody judges what apps spend, those with a cap are served for a while and no longer', async (t) => {
  const rig = await startRig(t, { settings: { spendingLeaseSeconds: 10 } });
  await rig.deploy('shop', manifest, 1, undefined, undefined, capped(null));
  await rig.deploy('free', manifest);
  await rig.ended('shop');
  await rig.ended('free');
  await until('the lease lapses', () => rig.dispatcher.route('shop')?.stop?.code === 'spending-unknown', 60_000);
  t.match(rig.dispatcher.route('shop')?.stop, { untilWallMs: null });
  t.match(rig.dispatcher.route('free'), { status: 'ready', stop: undefined }, 'one without a cap is served on');
  const beat = (): void => void rig.conduit.publish(spendingBeatSubject, encodeMessage(spendingBeatMessage, {}));
  beat();
  await until('a beat brings it back', () => rig.dispatcher.route('shop')?.status === 'ready' && rig.dispatcher.route('shop')?.stop === undefined);
});
