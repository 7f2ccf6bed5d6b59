import t from 'tap';
import fc from 'fast-check';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import { dnsChallengeMessage, httpChallengeMessage, issuedCertificateMessage, sharedCertificateMessage, wantedDomainMessage } from '../../kit/wire/certificates.ts';
import { checkOrderMessage } from '../../kit/wire/check.ts';
import { desiredAppMessage, nameEntryMessage } from '../../kit/wire/desired.ts';
import { appStateMessage, edgepointStateMessage, heartbeatMessage } from '../../kit/wire/edgepoint-state.ts';
import { eventMessage, logMessage } from '../../kit/wire/event.ts';
import { spendingBeatMessage, spentMessage } from '../../kit/wire/spending.ts';
import { queueMessageMessage } from '../../kit/wire/queue.ts';
import { artefactBucket, desiredStream } from '../../kit/wire/subjects.ts';
import { usageMessage, usageQueryMessage, usageReportMessage } from '../../kit/wire/usage.ts';
import { encodeMessage, parseMessage } from '../../kit/wire/version.ts';
import type { MessageType } from '../../kit/wire/version.ts';

const types = [
  checkOrderMessage,
  desiredAppMessage,
  nameEntryMessage,
  appStateMessage,
  edgepointStateMessage,
  heartbeatMessage,
  eventMessage,
  logMessage,
  usageMessage,
  usageQueryMessage,
  usageReportMessage,
  spentMessage,
  spendingBeatMessage,
  dnsChallengeMessage,
  httpChallengeMessage,
  sharedCertificateMessage,
  issuedCertificateMessage,
  wantedDomainMessage,
  queueMessageMessage,
] as unknown as MessageType<z.ZodObject>[];

/** Messages as earlier versions wrote them, `<name>-<version>.json`: kept for ever, so that what is on a disk somewhere stays readable. */
const folder = 'test/kit/fixtures';
const fixtures = readdirSync(folder).map((file) => {
  const [, name = '', version = ''] = /^(.+)-(\d+\.\d+)\.json$/.exec(file) ?? [];
  return { file, name, version, text: readFileSync(join(folder, file), 'utf8') };
});

for (const type of types) {
  t.test(type.name, async (t) => {
    const stored = fixtures.filter(({ name }) => name === type.name);
    t.ok(stored.some(({ version }) => version === `${type.major}.${type.minor}`), 'its present version is stored: add a fixture when the version grows');
    for (const { file, text, version } of stored) {
      if (Number(version.split('.')[0]) < type.major) {
        t.strictSame(parseMessage(type, text), { ok: false, reason: `${type.name}: version ${version} is not understood here, only ${type.major}.x` }, `${file}: what an old major says is told`);
        continue;
      }
      const fields = JSON.parse(text) as Record<string, unknown>;
      t.equal(fields['v'], version, `${file} says its version`);
      const parsed = parseMessage(type, text);
      if (!parsed.ok) {
        t.fail(`${file}: ${parsed.reason}`);
        continue;
      }
      const { v: _, ...said } = fields;
      t.match(parsed.value, said, `${file} means what it said; fields of later versions have defaults`);
      t.strictSame(parseMessage(type, new TextEncoder().encode(text)), parsed, 'as bytes too');

      const later = { ...fields, v: `${type.major}.${type.minor + 7}`, fieldOfTheFuture: { deep: [1] } };
      t.strictSame(parseMessage(type, JSON.stringify(later)), parsed, 'fields of a later minor are ignored');
      t.strictSame(parseMessage(type, encodeMessage(type, parsed.value)), parsed, 'written again it is the same');
      for (const major of [0, type.major + 1]) {
        const refused = parseMessage(type, JSON.stringify({ ...fields, v: `${major}.0` }));
        t.strictSame(refused, { ok: false, reason: `${type.name}: version ${major}.0 is not understood here, only ${type.major}.x` });
      }
      for (const version of [undefined, '', 1, '1', '1.0.0', '99999.0', 'x.y', null]) {
        t.strictSame(parseMessage(type, JSON.stringify({ ...fields, v: version })), { ok: false, reason: `${type.name}: no version` });
      }
      for (const field of Object.keys(fields).filter((field) => field !== 'v')) {
        const wrong = parseMessage(type, JSON.stringify({ ...fields, [field]: { not: 'this' } }));
        // A record of anything is the one kind of field that an object may fit.
        if (!wrong.ok) t.match(wrong.reason, `${type.name}: ${field}`, `a wrong ${field} is named`);
        else t.equal(field, 'figures', `${field} takes anything`);
      }
    }
    for (const text of ['', '{', 'null', '[]', '1', '"v"']) t.equal(parseMessage(type, text).ok, false, `refused: ${text}`);
    t.strictSame(parseMessage(type, new Uint8Array([0xff, 0xfe])), { ok: false, reason: `${type.name}: not JSON` });
  });
}

t.test('every fixture belongs to a message', async (t) => {
  for (const { file, name } of fixtures) t.ok(types.some((type) => type.name === name), file);
});

t.test('parsing never throws, whatever comes', async () => {
  fc.assert(
    fc.property(fc.constantFrom(...types), fc.oneof(fc.json(), fc.string(), fc.uint8Array(), fc.object().map((value) => JSON.stringify({ v: '1.0', ...value }))), (type, payload) => {
      const parsed = parseMessage(type, payload);
      return parsed.ok || parsed.reason.startsWith(type.name);
    }),
    { numRuns: 500 },
  );
});

t.test('two sites never share a bucket or a stream', async (t) => {
  const part = fc.constantFrom('a', 'b', 'a-b', 'b-a', 'a-b-a', 'ab');
  fc.assert(
    fc.property(part, part, part, part, (zone, edgepoint, otherZone, otherEdgepoint) => {
      const same = zone === otherZone && edgepoint === otherEdgepoint;
      const [one, other] = [{ zone, edgepoint }, { zone: otherZone, edgepoint: otherEdgepoint }];
      return (artefactBucket(one) === artefactBucket(other)) === same && (desiredStream(one) === desiredStream(other)) === same;
    }),
  );
  t.pass();
});
