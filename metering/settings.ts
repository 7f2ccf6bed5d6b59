import { z } from 'zod';
import type { Limits } from './judge.ts';

export const meteringSettings = {
  name: 'metering',
  about: 'keeps the ledger of usage and says what it costs. `metering invoice PROVIDER --config FILE [--json]` prints what a provider owes; `metering refused --config FILE` prints the records that were set aside.',
  prefix: 'EDGEPOINT_METERING',
  schema: z.object({
    databaseUrl: z.string().min(1).describe('The ledger: file:/path/metering.db, or libsql:// or http:// of a shared server.'),
    databaseTokenFile: z.string().default('').describe('A file with the token of a shared database server; empty when it needs none.'),
    natsUrl: z.string().min(1).describe('The message server, as nats://host:port.'),
    natsSeedFile: z.string().min(1).describe('A file with the NKEY seed of this daemon.'),
    health: z.string().min(1).describe('Where /healthz and /metrics are served: unix:/path or host:port.'),
    operator: z.string().min(1).default('operator').describe('Whose platform this is; stands in every row of the ledger.'),
    currency: z.string().min(1).default('EUR').describe('The currency of the table of charges, as on invoices.'),
    coresMax: z.number().positive().default(4).describe('Cores of the largest service offering; a record that claims more is set aside.'),
    memoryBytesMax: z.int().positive().default(4 * 1024 ** 3).describe('Memory of the largest service offering, in bytes.'),
    storageBytesMax: z.int().positive().default(1024 ** 4).describe('The largest template or volume, in bytes.'),
  }),
} as const;

export type MeteringSettings = Readonly<z.output<typeof meteringSettings.schema>>;

export function limitsOf(settings: MeteringSettings): Limits {
  const { coresMax, memoryBytesMax, storageBytesMax } = settings;
  return { coresMax, memoryBytesMax, storageBytesMax, marginRatio: 0.1, marginSeconds: 2 };
}
