import fc from 'fast-check';
import t from 'tap';
import { charges, checkCharges } from '../../metering/charges.ts';
import type { Charge } from '../../metering/charges.ts';
import { amountMicros, invoiceLines, rate, totalMicros } from '../../metering/rating.ts';
import type { AppUsage } from '../../metering/rating.ts';
import { zeroTotals } from '../../metering/totals.ts';

const usage = (app: string, totals: Partial<AppUsage['totals']>): AppUsage => ({ scope: 'main', app, instances: 1, totals: { ...zeroTotals, ...totals } });
const gibibyte = 1024n ** 3n;

t.test('an amount is rounded half up to whole micros', async (t) => {
  const table = [
    { quantity: 0n, price: 7n, per: 10n, amount: 0n },
    { quantity: 4n, price: 1n, per: 10n, amount: 0n },
    { quantity: 5n, price: 1n, per: 10n, amount: 1n },
    { quantity: 14n, price: 1n, per: 10n, amount: 1n },
    { quantity: 15n, price: 1n, per: 10n, amount: 2n },
    { quantity: 1n, price: 1n, per: 3n, amount: 0n },
    { quantity: 2n, price: 1n, per: 3n, amount: 1n },
    { quantity: 10n ** 30n, price: 3n, per: 1024n, amount: (3n * 10n ** 30n) / 1024n },
  ];
  for (const { quantity, price, per, amount } of table) t.equal(amountMicros(quantity, price, per), amount, `${quantity} * ${price} / ${per}`);
});

t.test('each charge has its price for the thing people name', async (t) => {
  const table: { charge: string; totals: Partial<AppUsage['totals']>; amount: number }[] = [
    { charge: 'cpu', totals: { cpuNs: 1_000_000_000n }, amount: 20 },
    { charge: 'memory', totals: { memoryByteSeconds: gibibyte }, amount: 3 },
    { charge: 'egress', totals: { bytesOut: gibibyte }, amount: 40_000 },
    { charge: 'requests', totals: { requests: 1_000_000n }, amount: 300_000 },
    { charge: 'wakes', totals: { wakes: 1_000_000n }, amount: 1_000_000 },
    { charge: 'storage', totals: { storageByteSeconds: gibibyte * 730n * 3600n }, amount: 100_000 },
  ];
  t.same(table.map(({ charge }) => charge), charges.map(({ charge }) => charge), 'no charge without a row here');
  for (const { charge, totals, amount } of table) {
    const lines = invoiceLines([usage('shop', totals)], charges);
    t.same(lines.map((line) => [line.charge, line.amountMicros]), [[charge, amount]], charge);
  }
  t.same(invoiceLines([usage('shop', { bytesIn: gibibyte })], charges), [], 'what comes in costs nothing');
  t.same(invoiceLines([usage('shop', { cpuNs: 999_999n })], charges), [], 'a part of a CPU ms is dropped');
});

t.test('a table that could not be billed from stops the start', async (t) => {
  const row: Charge = { charge: 'x', unit: 'x', per: 1, perName: 'x', priceMicros: 1, quantity: () => 0n };
  t.equal(checkCharges(charges), charges);
  t.throws(() => checkCharges([row, row]), /twice/);
  t.throws(() => checkCharges([{ ...row, per: 0 }]), /per must/);
  t.throws(() => checkCharges([{ ...row, priceMicros: 0.5 }]), /whole number/);
});

t.test('the lines of any usage add up to the total, each within half a micro of its exact price and checkable by hand', async () => {
  const big = fc.bigInt({ min: 0n, max: 10n ** 18n });
  const totals = fc.record({
    cpuNs: big, memoryByteSeconds: big, bytesIn: big, bytesOut: fc.bigInt({ min: 0n, max: 2n ** 53n }), requests: fc.bigInt({ min: 0n, max: 2n ** 53n }), wakes: fc.bigInt({ min: 0n, max: 2n ** 53n }), storageByteSeconds: big,
  });
  const usages = fc.array(fc.record({ scope: fc.constantFrom('main', 'test'), app: fc.constantFrom('a', 'b', 'c'), instances: fc.nat(), totals }), { maxLength: 8 });
  fc.assert(
    fc.property(usages, (list) => {
      const rated = rate({ provider: 'acme', currency: 'EUR', usages: list }, charges);
      if (rated.totalMicros !== rated.lines.reduce((sum, line) => sum + line.amountMicros, 0)) return false;
      if (totalMicros(rated.lines) !== rated.totalMicros) return false;
      return rated.lines.every((line) => {
        const exactTwice = 2n * BigInt(line.quantity) * BigInt(line.priceMicros);
        const difference = 2n * BigInt(line.amountMicros) * BigInt(line.per) - exactTwice;
        return difference > -BigInt(line.per) && difference <= BigInt(line.per);
      });
    }),
    { numRuns: 300, verbose: 1 },
  );
});
