import t from 'tap';
import { connect, nkeyAuthenticator } from '@nats-io/transport-node';
import type { NatsConnection } from '@nats-io/transport-node';
import { allowedFor, natsServerConfig, newBusUser, prepareStreams } from '../../host/credentials.ts';
import { codeOf } from '../../kit/errors.ts';
import type { Site } from '../../kit/ids.ts';
import { artefactBucket, desiredStream, queueStream, snapshotBucket } from '../../kit/wire/subjects.ts';
import { siteA, siteB, startNats, until } from './nats.ts';
import type { NatsWorld } from './nats.ts';

/** A connection with a user's seed and none of our own code between: what a taken-over daemon would do. */
async function intrude(nats: NatsWorld, name: string): Promise<NatsConnection> {
  const { seed, user } = nats.user(name);
  const connection = await connect({ servers: nats.url, authenticator: nkeyAuthenticator(new TextEncoder().encode(seed)), inboxPrefix: `_INBOX.${user.publicKey}`, noAsyncTraces: true });
  return connection;
}

type Verdict = 'allowed' | 'empty' | 'denied';

/** What a request comes back with: something, nothing of that name, or a refusal (also: nobody listens in this account). */
async function attempt(connection: NatsConnection, subject: string, body: unknown): Promise<Verdict> {
  try {
    const answer = await connection.request(subject, typeof body === 'string' ? body : JSON.stringify(body), { timeout: 1500 });
    if (answer.headers?.code === 404) return 'empty';
    const text = answer.string();
    if (text.startsWith('{') && 'error' in (JSON.parse(text) as object)) return 'empty';
    return 'allowed';
  } catch (thrown) {
    const name = thrown instanceof Error ? thrown.name : '';
    const cause = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause.name : '';
    if ([name, cause].some((kind) => kind === 'PermissionViolationError' || kind === 'NoRespondersError')) return 'denied';
    throw thrown;
  }
}

async function listen(connection: NatsConnection, subject: string): Promise<Verdict> {
  let refused = false;
  const subscription = connection.subscribe(subject, {
    callback: (error) => {
      if (error !== null) refused = true;
    },
  });
  await connection.flush();
  await new Promise((resolve) => setImmediate(resolve));
  subscription.unsubscribe();
  return refused ? 'denied' : 'allowed';
}

const own = 'north.one.p.main.a';
const foreign = 'south.two.p.main.b';
const ownDesired = desiredStream(siteA);
const foreignDesired = desiredStream(siteB);
const ownObjects = `OBJ_${artefactBucket(siteA)}`;
const foreignObjects = `OBJ_${artefactBucket(siteB)}`;
const api = '$JS.API';

/** Who, on which subject, with which body, and what comes of it. */
const requests: readonly (readonly [string, string, unknown, Verdict])[] = [
  // What an edgepoint is for.
  ['north.one', '$KV.state.north.one', 'mine', 'allowed'],
  ['north.one', `$KV.state.${own}`, 'mine', 'allowed'],
  ['north.one', `${api}.DIRECT.GET.KV_state.$KV.state.north.one`, '', 'allowed'],
  ['north.one', `${api}.DIRECT.GET.KV_state.$KV.state.${own}`, '', 'allowed'],
  ['north.one', `usage.${own}`, 'u', 'allowed'],
  ['north.one', `event.${own}`, 'e', 'allowed'],
  ['north.one', `log.${own}`, 'l', 'allowed'],
  ['north.one', `${api}.DIRECT.GET.${ownDesired}`, { seq: 1, next_by_subj: '$KV.desired.north.one.>' }, 'allowed'],
  ['north.one', `${api}.DIRECT.GET.${ownObjects}`, { seq: 1, next_by_subj: '$O.artefacts_north_one.>' }, 'allowed'],
  ['north.one', '$O.snapshots_north_one.C.x', 'mine', 'allowed'],
  ['north.one', `${api}.DIRECT.GET.OBJ_snapshots_north_one`, { last_by_subj: '$O.snapshots_north_one.C.x' }, 'allowed'],
  // Templates of another zone's edgepoint, and of its own what it may not.
  ['north.one', '$O.volumes_north_one.C.x', 'mine', 'allowed'],
  ['north.one', `${api}.DIRECT.GET.OBJ_volumes_north_one`, { last_by_subj: '$O.volumes_north_one.C.x' }, 'allowed'],
  ['north.one', '$O.volumes_south_two.C.x', 'forged', 'denied'],
  ['north.one', `${api}.DIRECT.GET.OBJ_volumes_south_two`, { seq: 1 }, 'denied'],
  ['north.one', 'volumes.north.one.to.x', 'forged', 'denied'],
  ['north.one', 'volumes.south.two.from.x', 'forged', 'denied'],
  ['conduit', `${api}.DIRECT.GET.OBJ_volumes_north_one`, { seq: 1 }, 'denied'],
  ['conduit', '$O.volumes_north_one.C.x', 'forged', 'denied'],
  ['north.one', '$O.snapshots_south_two.C.x', 'forged', 'denied'],
  ['north.one', `${api}.DIRECT.GET.OBJ_snapshots_south_two`, { seq: 1 }, 'denied'],
  ['north.one', `${api}.CONSUMER.CREATE.OBJ_snapshots_north_one`, { stream_name: 'OBJ_snapshots_north_one', config: {} }, 'denied'],
  ['conduit', `${api}.DIRECT.GET.OBJ_snapshots_north_one`, { seq: 1 }, 'denied'],
  ['conduit', '$O.snapshots_north_one.C.x', 'forged', 'denied'],
  // What was built: its maker writes, the conduit reads, and nobody else does either.
  ['north.one', '$O.builds_north_one.C.x', 'mine', 'allowed'],
  ['north.one', `${api}.DIRECT.GET.OBJ_builds_north_one`, { last_by_subj: '$O.builds_north_one.C.x' }, 'allowed'],
  ['conduit', `${api}.DIRECT.GET.OBJ_builds_north_one`, { last_by_subj: '$O.builds_north_one.C.x' }, 'allowed'],
  ['conduit', '$O.builds_north_one.C.x', 'forged', 'denied'],
  ['north.one', '$O.builds_south_two.C.x', 'forged', 'denied'],
  ['north.one', `${api}.DIRECT.GET.OBJ_builds_south_two`, { seq: 1 }, 'denied'],
  // Another's state, by every route to it.
  ['north.one', `${api}.DIRECT.GET.KV_state`, { last_by_subj: '$KV.state.south.two' }, 'denied'],
  ['north.one', `${api}.DIRECT.GET.KV_state`, { last_by_subj: '$KV.state.north.one' }, 'denied'],
  ['north.one', `${api}.DIRECT.GET.KV_state.$KV.state.south.two`, '', 'denied'],
  ['north.one', `${api}.DIRECT.GET.KV_state.$KV.state.${foreign}`, '', 'denied'],
  ['north.one', `${api}.DIRECT.GET.KV_state.$KV.state.>`, '', 'denied'],
  ['north.one', `${api}.DIRECT.GET.KV_state.$KV.state.north.>`, '', 'denied'],
  ['north.one', `${api}.STREAM.MSG.GET.KV_state`, { last_by_subj: '$KV.state.south.two' }, 'denied'],
  ['north.one', `${api}.CONSUMER.CREATE.KV_state.x.$KV.state.south.two`, { stream_name: 'KV_state', config: { name: 'x', filter_subject: '$KV.state.south.two' } }, 'denied'],
  ['north.one', `${api}.CONSUMER.CREATE.KV_state`, { stream_name: 'KV_state', config: {} }, 'denied'],
  // Another's desired apps.
  ['north.one', `${api}.DIRECT.GET.${foreignDesired}`, { last_by_subj: `$KV.desired.${foreign}` }, 'denied'],
  ['north.one', `${api}.DIRECT.GET.${foreignDesired}.$KV.desired.${foreign}`, '', 'denied'],
  ['north.one', `${api}.DIRECT.GET.${ownDesired}`, { last_by_subj: `$KV.desired.${foreign}` }, 'empty'],
  ['north.one', `${api}.DIRECT.GET.${ownDesired}`, { last_by_subj: '$KV.desired.south.>' }, 'empty'],
  ['north.one', `${api}.STREAM.MSG.GET.${foreignDesired}`, { seq: 1 }, 'denied'],
  ['north.one', `${api}.CONSUMER.CREATE.${foreignDesired}.x.$KV.desired.south.two.>`, { stream_name: foreignDesired, config: { name: 'x' } }, 'denied'],
  ['north.one', `${api}.CONSUMER.CREATE.${ownDesired}.x.$KV.desired.north.one.>`, { stream_name: ownDesired, config: { name: 'x', deliver_subject: '$KV.state.south.two' } }, 'denied'],
  ['north.one', `${api}.CONSUMER.CREATE.${ownDesired}`, { stream_name: ownDesired, config: {} }, 'denied'],
  ['north.one', `${api}.CONSUMER.DURABLE.CREATE.${ownDesired}.x`, { stream_name: ownDesired, config: { durable_name: 'x' } }, 'denied'],
  // Messages that wait for its own apps, and for another's.
  ['north.one', `$KV.queues.${own}.jobs.0`, 'tried', 'allowed'],
  ['north.one', `${api}.DIRECT.GET.${queueStream(siteA)}`, { seq: 1, next_by_subj: '$KV.queues.north.one.>' }, 'allowed'],
  ['north.one', `$KV.queues.${foreign}.jobs.0`, 'forged', 'denied'],
  ['north.one', `${api}.DIRECT.GET.${queueStream(siteB)}`, { seq: 1 }, 'denied'],
  ['north.one', `${api}.CONSUMER.CREATE.${queueStream(siteA)}`, { stream_name: queueStream(siteA), config: {} }, 'denied'],
  // Another's artefacts.
  ['north.one', `${api}.DIRECT.GET.${foreignObjects}`, { seq: 1 }, 'denied'],
  ['north.one', `${api}.STREAM.MSG.GET.${foreignObjects}`, { seq: 1 }, 'denied'],
  ['north.one', `${api}.CONSUMER.CREATE.${foreignObjects}`, { stream_name: foreignObjects, config: {} }, 'denied'],
  ['north.one', `${api}.STREAM.INFO.${foreignObjects}`, '', 'denied'],
  // Streams that would copy others, or change what is told where.
  ['north.one', `${api}.STREAM.CREATE.copy`, { name: 'copy', mirror: { name: foreignDesired } }, 'denied'],
  ['north.one', `${api}.STREAM.CREATE.copy`, { name: 'copy', sources: [{ name: 'KV_state' }] }, 'denied'],
  ['north.one', `${api}.STREAM.CREATE.catch`, { name: 'catch', subjects: ['heartbeat.>'] }, 'denied'],
  ['north.one', `${api}.STREAM.UPDATE.${foreignDesired}`, { name: foreignDesired, republish: { src: '>', dest: 'kv.desired.north.one.>' } }, 'denied'],
  ['north.one', `${api}.STREAM.DELETE.${foreignDesired}`, '', 'denied'],
  ['north.one', `${api}.STREAM.PURGE.${ownDesired}`, '', 'denied'],
  ['north.one', `${api}.STREAM.NAMES`, '', 'denied'],
  ['north.one', `${api}.STREAM.LIST`, '', 'denied'],
  ['north.one', `${api}.INFO`, '', 'denied'],
  ['north.one', '$SYS.REQ.USER.INFO', '', 'denied'],
  ['north.one', '$SYS.REQ.SERVER.PING', '', 'denied'],
  // Writing what is another's to write.
  ['north.one', '$KV.state.south.two', 'forged', 'denied'],
  ['north.one', `$KV.state.${foreign}`, 'forged', 'denied'],
  ['north.one', `$KV.desired.${own}`, 'forged', 'denied'],
  ['north.one', `$KV.desired.${foreign}`, 'forged', 'denied'],
  ['north.one', '$KV.desired.north.one.p.check-1', 'forged', 'denied'],
  ['north.one', '$KV.desired.south.two.p.check-1', 'forged', 'denied'],
  ['north.one', '$KV.names.p.main.a', 'forged', 'denied'],
  ['north.one', '$O.artefacts_north_one.C.x', 'forged', 'denied'],
  ['north.one', '$O.artefacts_south_two.C.x', 'forged', 'denied'],
  ['north.one', `usage.${foreign}`, 'forged', 'denied'],
  ['north.one', `event.${foreign}`, 'forged', 'denied'],
  ['north.one', `log.${foreign}`, 'forged', 'denied'],
  ['north.one', `kv.desired.${foreign}`, 'forged', 'denied'],
  ['north.one', 'heartbeat.south.two', 'forged', 'denied'],
  ['north.one', 'metering.query', 'p', 'denied'],
  // The operator's own daemons.
  ['conduit', `$KV.desired.${own}`, 'one', 'allowed'],
  ['conduit', '$KV.desired.north.one.p.check-1', 'one', 'allowed'],
  ['conduit', '$KV.names.p.main.a', 'name', 'allowed'],
  ['conduit', `$KV.queues.${foreign}.jobs.0`, 'sent', 'allowed'],
  ['conduit', `${api}.DIRECT.GET.${queueStream(siteB)}.$KV.queues.${foreign}.jobs.0`, '', 'allowed'],
  ['metering', `$KV.queues.${own}.jobs.0`, 'forged', 'denied'],
  ['conduit', `${api}.DIRECT.GET.KV_state`, { last_by_subj: '$KV.state.south.two' }, 'allowed'],
  ['conduit', `${api}.CONSUMER.CREATE.EVENTS.x.event.>`, { stream_name: 'EVENTS', config: { name: 'x', filter_subject: 'event.>', mem_storage: true } }, 'allowed'],
  ['conduit', '$KV.state.south.two', 'forged', 'denied'],
  ['conduit', `usage.${own}`, 'forged', 'denied'],
  ['conduit', `${api}.CONSUMER.CREATE.USAGE.x`, { stream_name: 'USAGE', config: { name: 'x' } }, 'denied'],
  ['conduit', `${api}.STREAM.DELETE.USAGE`, '', 'denied'],
  ['conduit', `${api}.STREAM.CREATE.copy`, { name: 'copy', mirror: { name: 'USAGE' } }, 'denied'],
  ['metering', `${api}.CONSUMER.INFO.USAGE.none`, '', 'empty'],
  ['metering', `${api}.CONSUMER.CREATE.EVENTS.x`, { stream_name: 'EVENTS', config: { name: 'x' } }, 'denied'],
  ['metering', `${api}.STREAM.PURGE.USAGE`, '', 'denied'],
  ['metering', `usage.${own}`, 'forged', 'denied'],
  ['metering', `${api}.DIRECT.GET.${ownDesired}`, { seq: 1 }, 'denied'],
  ['metering', `$KV.desired.${own}`, 'forged', 'denied'],
  ['global-dispatcher', `${api}.DIRECT.GET.KV_names`, { last_by_subj: '$KV.names.>' }, 'allowed'],
  ['global-dispatcher', `${api}.DIRECT.GET.KV_state`, { last_by_subj: '$KV.state.>' }, 'allowed'],
  ['global-dispatcher', '$KV.names.p.main.a', 'forged', 'denied'],
  ['global-dispatcher', '$KV.state.north.one', 'forged', 'denied'],
  ['global-dispatcher', `${api}.DIRECT.GET.${ownDesired}`, { seq: 1 }, 'denied'],
  ['global-dispatcher', `${api}.DIRECT.GET.${ownObjects}`, { seq: 1 }, 'denied'],
  ['global-dispatcher', `${api}.CONSUMER.CREATE.KV_state`, { stream_name: 'KV_state', config: { deliver_subject: '$KV.names.p.main.a' } }, 'denied'],
  // Certificates: sealed for one edgepoint, written by the certifier alone.
  ['certificates', '$KV.certificates.north.one.edge.test', 'sealed', 'allowed'],
  ['certificates', '$KV.challenges.dns.0', 'proof', 'allowed'],
  ['certificates', '$KV.issued.edge.test', 'status', 'allowed'],
  ['certificates', `${api}.DIRECT.GET.KV_domains`, { last_by_subj: '$KV.domains.shop.example' }, 'empty'],
  ['certificates', '$KV.domains.shop.example', 'forged', 'denied'],
  ['certificates', '$KV.names.p.main.a', 'forged', 'denied'],
  ['certificates', '$KV.state.north.one', 'forged', 'denied'],
  ['certificates', `$KV.desired.${own}`, 'forged', 'denied'],
  ['certificates', `${api}.DIRECT.GET.${ownDesired}`, { seq: 1 }, 'denied'],
  ['north.one', `${api}.DIRECT.GET.KV_certificates_north_one`, { last_by_subj: '$KV.certificates.north.one.edge.test' }, 'allowed'],
  ['north.one', `${api}.DIRECT.GET.KV_certificates_south_two`, { seq: 1 }, 'denied'],
  ['north.one', `${api}.DIRECT.GET.KV_challenges`, { last_by_subj: '$KV.challenges.dns.0' }, 'allowed'],
  ['north.one', '$KV.certificates.north.one.edge.test', 'forged', 'denied'],
  ['north.one', '$KV.challenges.http.0', 'forged', 'denied'],
  ['north.one', '$KV.domains.shop.example', 'forged', 'denied'],
  ['conduit', '$KV.domains.shop.example', 'wanted', 'allowed'],
  ['conduit', `${api}.DIRECT.GET.KV_issued`, { last_by_subj: '$KV.issued.edge.test' }, 'allowed'],
  ['conduit', `${api}.DIRECT.GET.KV_certificates_north_one`, { seq: 1 }, 'denied'],
  ['conduit', '$KV.certificates.north.one.edge.test', 'forged', 'denied'],
  ['conduit', '$KV.challenges.dns.0', 'forged', 'denied'],
  ['global-dispatcher', `${api}.DIRECT.GET.KV_challenges`, { last_by_subj: '$KV.challenges.dns.0' }, 'allowed'],
  ['global-dispatcher', '$KV.challenges.dns.0', 'forged', 'denied'],
  ['global-dispatcher', `${api}.DIRECT.GET.KV_certificates_north_one`, { seq: 1 }, 'denied'],
  ['metering', `${api}.DIRECT.GET.KV_certificates_north_one`, { seq: 1 }, 'denied'],
  ['operator', `${api}.STREAM.NAMES`, '', 'allowed'],
  ['operator', `${api}.STREAM.INFO.USAGE`, '', 'allowed'],
  ['operator', `$KV.desired.${own}`, 'forged', 'denied'],
  ['operator', `usage.${own}`, 'forged', 'denied'],
];

const subscriptions: readonly (readonly [string, string, Verdict])[] = [
  ['north.one', 'kv.desired.north.one.>', 'allowed'],
  ['north.one', 'kv.desired.south.two.>', 'denied'],
  ['north.one', 'kv.desired.>', 'denied'],
  ['north.one', 'kv.state.south.two', 'denied'],
  ['north.one', '>', 'denied'],
  ['north.one', '_INBOX.>', 'denied'],
  ['north.one', '_INBOX.{south.two}.>', 'denied'],
  ['north.one', '_INBOX.{conduit}.>', 'denied'],
  ['north.one', '$JS.>', 'denied'],
  ['north.one', '$SYS.>', 'denied'],
  ['north.one', '$KV.>', 'denied'],
  ['north.one', 'heartbeat.>', 'denied'],
  ['north.one', 'metering.query', 'denied'],
  ['conduit', 'heartbeat.>', 'allowed'],
  ['conduit', 'kv.state.>', 'allowed'],
  ['conduit', 'metering.query', 'denied'],
  ['conduit', 'usage.>', 'denied'],
  ['conduit', '_INBOX.{metering}.>', 'denied'],
  ['metering', 'metering.query', 'allowed'],
  ['metering', 'kv.desired.>', 'denied'],
  ['metering', 'log.>', 'denied'],
  ['global-dispatcher', 'kv.names.>', 'allowed'],
  ['global-dispatcher', 'kv.state.>', 'allowed'],
  ['global-dispatcher', 'kv.desired.>', 'denied'],
  ['global-dispatcher', 'event.>', 'denied'],
  ['north.one', 'kv.certificates.north.one.>', 'allowed'],
  ['north.one', 'kv.certificates.south.two.>', 'denied'],
  ['north.one', 'kv.certificates.>', 'denied'],
  ['north.one', 'kv.challenges.http.>', 'allowed'],
  ['north.one', 'kv.domains.>', 'denied'],
  ['certificates', 'kv.domains.>', 'allowed'],
  ['certificates', 'kv.state.*.*', 'allowed'],
  ['certificates', 'kv.state.>', 'denied'],
  ['certificates', 'kv.desired.>', 'denied'],
  ['certificates', 'kv.certificates.>', 'denied'],
  ['conduit', 'kv.certificates.>', 'denied'],
  ['conduit', 'kv.issued.>', 'allowed'],
  ['global-dispatcher', 'kv.challenges.dns.>', 'allowed'],
  ['global-dispatcher', 'kv.certificates.>', 'denied'],
  ['operator', 'heartbeat.>', 'denied'],
];

/** A world in which each site has something to steal. */
async function furnished(t: Parameters<typeof startNats>[0]): Promise<NatsWorld> {
  const nats = await startNats(t);
  const conduit = await nats.bus('conduit');
  await conduit.putKv('desired', own, 'own');
  await conduit.putKv('desired', foreign, 'foreign');
  await conduit.putKv('names', 'p.main.a', 'name');
  const certifier = await nats.bus('certificates');
  for (const site of [siteA, siteB]) await certifier.putKv('certificates', `${site.zone}.${site.edgepoint}.edge.test`, 'sealed');
  await certifier.putKv('challenges', 'dns.0', 'proof');
  await certifier.putKv('issued', 'edge.test', 'status');
  for (const site of [siteA, siteB]) await conduit.putObject(artefactBucket(site), 'digest', new TextEncoder().encode(`artefact of ${site.zone}`));
  await (await nats.bus('south.two')).putKv('state', 'south.two', 'true state');
  await (await nats.bus('north.one')).putKv('state', 'north.one', 'true state');
  return nats;
}

t.test('every attempt of the table comes out as it says', async (t) => {
  const nats = await furnished(t);
  const intruders = new Map<string, NatsConnection>();
  for (const name of ['north.one', 'conduit', 'metering', 'global-dispatcher', 'certificates', 'operator']) intruders.set(name, await intrude(nats, name));
  t.teardown(() => Promise.all([...intruders.values()].map((connection) => connection.close())));
  const of = (name: string): NatsConnection => intruders.get(name) as NatsConnection;
  for (const [who, subject, body, expected] of requests) {
    t.equal(await attempt(of(who), subject, body), expected, `${who} asks ${subject} ${JSON.stringify(body).slice(0, 80)}: ${expected}`);
  }
  for (const [who, pattern, expected] of subscriptions) {
    const subject = pattern.replace(/\{(.*)\}/, (_, name: string) => nats.user(name).user.publicKey);
    t.equal(await listen(of(who), subject), expected, `${who} listens on ${pattern}: ${expected}`);
  }
  const conduit = await nats.bus('conduit');
  t.equal(await conduit.getKv('state', 'south.two'), 'true state', 'nothing forged was stored');
  t.equal(await conduit.getKv('desired', foreign), 'foreign');
});

t.test('an answer cannot be steered to a subject that the asker may not speak on', async (t) => {
  const nats = await furnished(t);
  const intruder = await intrude(nats, 'north.one');
  t.teardown(() => intruder.close());
  const conduit = await nats.bus('conduit');
  const heard: string[] = [];
  conduit.subscribe('heartbeat.>', (subject) => void heard.push(subject));
  const mark = async (): Promise<void> => {
    const before = heard.length;
    await until('a heartbeat is heard', () => {
      intruder.publish('heartbeat.north.one', '');
      return heard.length > before;
    });
  };
  await mark();
  const targets = ['$KV.state.south.two', `$KV.desired.${foreign}`, `usage.${foreign}`, 'heartbeat.south.two', '$KV.names.p.main.a'];
  for (const target of targets) {
    for (const [subject, body] of [
      [`${api}.DIRECT.GET.${ownObjects}`, '{"seq":1}'],
      [`${api}.DIRECT.GET.${ownDesired}`, '{"seq":1}'],
      ['$KV.state.north.one', 'mine'],
    ] as const) {
      intruder.publish(subject, body, { reply: target });
    }
  }
  await intruder.flush();
  // Its own heartbeat, sent last on the same connection, comes after whatever the others caused.
  await mark();
  t.strictSame([...new Set(heard)], ['heartbeat.north.one']);
  t.equal(await conduit.getKv('state', 'south.two'), 'true state');
  t.equal(await conduit.getKv('desired', foreign), 'foreign');
  t.equal(await conduit.getKv('names', 'p.main.a'), 'name');
  const operator = await nats.bus('operator');
  const usage = JSON.parse(await operator.request(`${api}.STREAM.INFO.USAGE`, '', 1000)) as { state: { messages: number } };
  t.equal(usage.state.messages, 0);
  // Within one account the server does steer: that is what the accounts are for, and shows that the checks above can fail.
  const trusted = await intrude(nats, 'conduit');
  t.teardown(() => trusted.close());
  trusted.publish(`${api}.DIRECT.GET.${ownObjects}`, '{"seq":1}', { reply: 'heartbeat.south.two' });
  await until('the steered answer is heard', () => heard.includes('heartbeat.south.two'));
});

t.test('a revoked edgepoint is cut off within a second; the others do not notice', async (t) => {
  const nats = await furnished(t);
  const revoked = await nats.bus('north.one');
  const other = await nats.bus('south.two');
  const conduit = await nats.bus('conduit');
  const seen: string[] = [];
  await (await other.watchKv('desired', 'south.two.>', (key, text) => void seen.push(`${key}=${text}`))).ready;
  let ups = 0;
  other.onUp(() => void (ups += 1));
  conduit.onUp(() => void (ups += 1));
  const pid = nats.pid;
  const fromMs = performance.now();
  const revoking = nats.revoke('north.one');
  await until('the revoked one is down', () => !revoked.up, 1000);
  t.comment(`cut off after ${Math.round(performance.now() - fromMs)} ms`);
  await revoking;
  await t.rejects(revoked.putKv('state', 'north.one', 'still here'), { code: 'bus-away' });
  await t.rejects(intrude(nats, 'north.one'), /Authorization/, 'nor does it get in again');
  await conduit.putKv('desired', foreign, 'changed');
  await until('the other still hears changes', () => seen.includes(`${foreign}=changed`));
  await other.append(`usage.${foreign}`, 'u', 'x/1');
  t.equal(ups, 2, 'no other connection was broken');
  t.equal(nats.pid, pid, 'the server was not started again');
  t.notOk(revoked.up);
});

for (const zone of ['west', 'north']) t.test(`an edgepoint is admitted to ${zone} without a restart, and the others do not notice`, async (t) => {
  const nats = await furnished(t);
  const other = await nats.bus('north.one');
  let ups = 0;
  other.onUp(() => void (ups += 1));
  const site = { zone, edgepoint: 'three' };
  await nats.add(`${zone}.three`, 'edgepoint', site);
  const operator = await nats.bus('operator');
  await until('the operator is in', () => operator.up);
  await prepareStreams(operator, [siteA, siteB, site]);
  const added = await nats.bus(`${zone}.three`);
  await until('it is in', () => added.up);
  const conduit = await nats.bus('conduit');
  const seen: string[] = [];
  await (await added.watchKv('desired', `${zone}.three.>`, (key, text) => void seen.push(`${key}=${text}`))).ready;
  await until('the conduit may write to it', () => conduit.putKv('desired', `${zone}.three.p.main.c`, 'hello').then(() => true, () => false));
  await until('it hears', () => seen.includes(`${zone}.three.p.main.c=hello`));
  await conduit.putObject(artefactBucket(site), 'digest', new TextEncoder().encode('artefact'));
  const content = await added.getObject(artefactBucket(site), 'digest');
  t.equal(await new Response(content).text(), 'artefact');
  await added.append(`usage.${zone}.three.p.main.c`, 'u', 'y/1');
  const reads = async (bus: typeof other, of: Site): Promise<string> => bus.findObject(snapshotBucket(of), 'any').then((found) => (found === null ? 'nothing there' : 'something'), codeOf);
  const expected = zone === siteA.zone ? 'nothing there' : 'bus-forbidden';
  t.equal(await reads(added, siteA), expected, 'it reads the templates of its zone alone');
  t.equal(await reads(other, site), expected, 'and its zone reads its own');
  await t.rejects(added.putNotedObject(snapshotBucket(siteA), 'any', { id: 'x', content: () => new Blob(['forged']).stream(), note: () => Promise.resolve('') }), 'it writes no other’s');
  t.equal(ups, 1, 'no other connection was broken');
});

t.test('the config', async (t) => {
  const { user, seed } = newBusUser('edgepoint', siteA);
  const operator = newBusUser('operator', null);
  const text = natsServerConfig({ operator: 'acme', listen: '127.0.0.1:4222', storeFolder: '/x', users: [user, operator.user, { ...newBusUser('conduit', null).user, revoked: true }] });
  t.notMatch(text, seed, 'holds no secret');
  t.equal(text.match(/"nkey"/g)?.length, 2, 'leaves out the revoked');
  t.throws(() => newBusUser('edgepoint', null), /broken invariant/);
  t.throws(() => newBusUser('conduit', siteA), /broken invariant/);
  const { publish } = allowedFor(user, []);
  t.notOk(publish.some((subject) => subject.includes('CONSUMER') || subject.includes('STREAM')), 'an edgepoint makes nothing in the server');
});
