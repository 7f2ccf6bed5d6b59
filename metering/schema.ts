import { counters } from './totals.ts';

/** As `Migration` of host/database.ts. */
interface Step {
  readonly number: number;
  readonly name: string;
  readonly sql: string[];
}

const counterColumns = counters.map(({ column }) => `${column} INTEGER NOT NULL`).join(', ');

/**
 * records: every event once, for ever, with the totals it said; nothing here is ever changed.
 * instances: the highest totals of each instance, which are what is billed; can be made again from `records`.
 * refused: what was set aside, with the reason, until a person has looked.
 */
export const ledgerSteps: readonly Step[] = [
  {
    number: 1,
    name: 'records, instances, refused',
    sql: [
      `CREATE TABLE records (
        operator TEXT NOT NULL, zone TEXT NOT NULL, edgepoint TEXT NOT NULL,
        provider TEXT NOT NULL, scope TEXT NOT NULL, app TEXT NOT NULL, release INTEGER NOT NULL,
        instance TEXT NOT NULL, sequence INTEGER NOT NULL, id TEXT NOT NULL,
        boot_id TEXT NOT NULL, from_boot_ns INTEGER NOT NULL, to_boot_ns INTEGER NOT NULL, wall_ms INTEGER NOT NULL, final INTEGER NOT NULL,
        ${counterColumns},
        PRIMARY KEY (zone, edgepoint, id)
      ) WITHOUT ROWID`,
      `CREATE TABLE instances (
        operator TEXT NOT NULL, zone TEXT NOT NULL, edgepoint TEXT NOT NULL,
        provider TEXT NOT NULL, scope TEXT NOT NULL, app TEXT NOT NULL, release INTEGER NOT NULL,
        instance TEXT NOT NULL, boot_id TEXT NOT NULL, sequence INTEGER NOT NULL, final INTEGER NOT NULL, records INTEGER NOT NULL,
        ${counterColumns},
        PRIMARY KEY (zone, edgepoint, instance)
      ) WITHOUT ROWID`,
      'CREATE INDEX instances_by_owner ON instances (operator, provider, scope, app)',
      `CREATE TABLE refused (
        digest TEXT PRIMARY KEY, operator TEXT NOT NULL, site TEXT NOT NULL, subject TEXT NOT NULL,
        code TEXT NOT NULL, reason TEXT NOT NULL, payload TEXT NOT NULL, first_wall_ms INTEGER NOT NULL, times INTEGER NOT NULL
      ) WITHOUT ROWID`,
      'CREATE INDEX refused_by_site ON refused (site, code)',
    ],
  },
];
