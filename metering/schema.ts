import { counters } from './totals.ts';

/** As `Migration` of host/database.ts. */
interface Step {
  readonly number: number;
  readonly name: string;
  readonly sql: string[];
}

const counterColumns = counters.map(({ column }) => `${column} INTEGER NOT NULL`).join(', ');

/** Adds to the month of an instance what it has used more: in the database itself, so that two processes on one ledger cannot add it twice. */
const addToMonth = (growth: (column: string) => string): string => `
  INSERT INTO months (operator, month, provider, app, scope, zone, edgepoint, ${counters.map(({ column }) => column).join(', ')})
  VALUES (NEW.operator, NEW.month, NEW.provider, NEW.app, NEW.scope, NEW.zone, NEW.edgepoint, ${counters.map(({ column }) => growth(column)).join(', ')})
  ON CONFLICT (operator, month, provider, app, scope, zone, edgepoint) DO UPDATE SET
  ${counters.map(({ column }) => `${column} = ${column} + excluded.${column}`).join(', ')};`;

/**
 * records: every event once, for ever, with the totals it said; nothing here is ever changed.
 * instances: the highest totals of each instance, which are what is billed; can be made again from `records`.
 * months: the growth of `instances`, by the month in which the ledger took it in.
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
  {
    number: 2,
    name: 'what was used in each month',
    sql: [
      // The month (UTC) in which its totals grew last; empty for those that have not grown since there are months.
      "ALTER TABLE instances ADD COLUMN month TEXT NOT NULL DEFAULT ''",
      `CREATE TABLE months (
        operator TEXT NOT NULL, month TEXT NOT NULL, provider TEXT NOT NULL, app TEXT NOT NULL, scope TEXT NOT NULL,
        zone TEXT NOT NULL, edgepoint TEXT NOT NULL, ${counterColumns},
        PRIMARY KEY (operator, month, provider, app, scope, zone, edgepoint)
      ) WITHOUT ROWID`,
      `CREATE TRIGGER month_of_new AFTER INSERT ON instances BEGIN ${addToMonth((column) => `NEW.${column}`)} END`,
      `CREATE TRIGGER month_of_grown AFTER UPDATE ON instances BEGIN ${addToMonth((column) => `NEW.${column} - OLD.${column}`)} END`,
    ],
  },
];
