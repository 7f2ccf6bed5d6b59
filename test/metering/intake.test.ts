import t from 'tap';
import { batchMessagesMax, openIntake } from '../../metering/intake.ts';
import type { UsageMessage } from '../../metering/ledger.ts';

const message = (text: string): UsageMessage => ({ subject: 's', text });
const outcome = { counted: 0, repeated: 0, refused: [], apps: [] };

/** A ledger that says what it was given, and fails as told. */
function ledger(fails: (messages: readonly UsageMessage[]) => boolean) {
  const batches: string[][] = [];
  return {
    batches,
    record: async (messages: readonly UsageMessage[]) => {
      batches.push(messages.map(({ text }) => text));
      await new Promise((resolve) => setImmediate(resolve));
      if (fails(messages)) throw new Error('no');
      return outcome;
    },
  };
}

t.test('what arrives while a batch is written becomes the next batch, none too large', async (t) => {
  const kept = ledger(() => false);
  const intake = openIntake(kept, () => {});
  const first = intake.accept(message('alone'));
  await new Promise((resolve) => setImmediate(resolve));
  const rest = Array.from({ length: batchMessagesMax + 10 }, (_, place) => intake.accept(message(String(place))));
  await Promise.all([first, ...rest]);
  t.same(kept.batches.map((batch) => batch.length), [1, batchMessagesMax, 10]);
  t.equal(kept.batches[1]?.[0], '0', 'in the order in which it came');
  await intake.settled();
});

t.test('one message the ledger cannot take comes again; the others of its batch are kept', async (t) => {
  const kept = ledger((messages) => messages.some(({ text }) => text === 'bad'));
  const intake = openIntake(kept, () => {});
  const results = await Promise.allSettled(['a', 'bad', 'b', 'c'].map((text) => intake.accept(message(text))));
  t.same(results.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
});

t.test('a ledger that is away refuses all after a few tries, and takes the next when it is back', async (t) => {
  let away = true;
  const kept = ledger(() => away);
  const intake = openIntake(kept, () => {});
  const results = await Promise.allSettled(Array.from({ length: 100 }, (_, place) => intake.accept(message(String(place)))));
  t.ok(results.every(({ status }) => status === 'rejected'));
  t.equal(kept.batches.length, 4);
  away = false;
  await intake.accept(message('again'));
  t.same(kept.batches.at(-1), ['again']);
});
