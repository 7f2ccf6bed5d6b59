import type { Client, Row } from '@libsql/client';
import type { Migration } from '../host/database.ts';
import type { Attempts, HeldCertificate } from './plan.ts';
import type { Vault } from './vault.ts';

/** Numbered steps of certificates.db; a step that has been released is never changed. */
export const migrations: readonly Migration[] = [
  {
    number: 1,
    name: 'accounts, certificates and how asking went',
    sql: [
      `CREATE TABLE accounts (directoryUrl TEXT PRIMARY KEY, sealedKey BLOB NOT NULL)`,
      // sealedPem holds key and chain; the rest is public.
      `CREATE TABLE certificates (
        name TEXT PRIMARY KEY, names TEXT NOT NULL, notBeforeMs INTEGER NOT NULL, notAfterMs INTEGER NOT NULL,
        certificateId TEXT NOT NULL, sealedPem BLOB NOT NULL)`,
      `CREATE TABLE attempts (name TEXT PRIMARY KEY, failures INTEGER NOT NULL, lastMs INTEGER NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL)`,
    ],
  },
];

export interface StoredCertificate extends HeldCertificate {
  /** Digest of the chain. */
  readonly certificateId: string;
}

export interface CertificateStore {
  /** The private key of our account there, as PEM; null when there is none. Never to be logged. */
  accountKey(directoryUrl: string): Promise<string | null>;
  saveAccountKey(directoryUrl: string, key: string): Promise<void>;
  certificates(): Promise<ReadonlyMap<string, StoredCertificate>>;
  /** Key and chain; null when there is none. Never to be logged. */
  pem(name: string): Promise<string | null>;
  /** Takes the place of an earlier one; failures are forgotten. */
  save(certificate: StoredCertificate, pem: string): Promise<void>;
  remove(name: string): Promise<void>;
  attempts(): Promise<ReadonlyMap<string, Attempts>>;
  noteFailure(name: string, attempt: Omit<Attempts, 'failures'>): Promise<void>;
}

export function openCertificateStore(database: Client, vault: Vault): CertificateStore {
  const rows = async (sql: string, args: (string | number)[] = []): Promise<Row[]> => (await database.execute({ sql, args })).rows;
  const blob = (row: Row, column: string): Uint8Array => new Uint8Array(row[column] as ArrayBuffer);
  const accountPlace = (directoryUrl: string): string => `account ${directoryUrl}`;
  const certificatePlace = (name: string): string => `certificate ${name}`;
  return {
    async accountKey(directoryUrl) {
      const [row] = await rows('SELECT * FROM accounts WHERE directoryUrl = ?', [directoryUrl]);
      return row === undefined ? null : vault.open(blob(row, 'sealedKey'), accountPlace(directoryUrl));
    },
    async saveAccountKey(directoryUrl, key) {
      await database.execute({ sql: 'INSERT OR REPLACE INTO accounts VALUES (?, ?)', args: [directoryUrl, vault.seal(key, accountPlace(directoryUrl))] });
    },
    async certificates() {
      const found = await rows('SELECT name, names, notBeforeMs, notAfterMs, certificateId FROM certificates ORDER BY name');
      return new Map(found.map((row) => [String(row['name']), {
        name: String(row['name']),
        names: String(row['names']).split(' '),
        notBeforeMs: Number(row['notBeforeMs']),
        notAfterMs: Number(row['notAfterMs']),
        certificateId: String(row['certificateId']),
      }]));
    },
    async pem(name) {
      const [row] = await rows('SELECT sealedPem FROM certificates WHERE name = ?', [name]);
      return row === undefined ? null : vault.open(blob(row, 'sealedPem'), certificatePlace(name));
    },
    async save({ name, names, notBeforeMs, notAfterMs, certificateId }, pem) {
      await database.batch(
        [
          { sql: 'INSERT OR REPLACE INTO certificates VALUES (?, ?, ?, ?, ?, ?)', args: [name, names.join(' '), notBeforeMs, notAfterMs, certificateId, vault.seal(pem, certificatePlace(name))] },
          { sql: 'DELETE FROM attempts WHERE name = ?', args: [name] },
        ],
        'write',
      );
    },
    async remove(name) {
      await database.batch([{ sql: 'DELETE FROM certificates WHERE name = ?', args: [name] }, { sql: 'DELETE FROM attempts WHERE name = ?', args: [name] }], 'write');
    },
    async attempts() {
      const found = await rows('SELECT * FROM attempts');
      return new Map(found.map((row) => [String(row['name']), { failures: Number(row['failures']), lastMs: Number(row['lastMs']), code: String(row['code']), text: String(row['text']) }]));
    },
    async noteFailure(name, { lastMs, code, text }) {
      await database.execute({
        sql: 'INSERT INTO attempts VALUES (?, 1, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET failures = failures + 1, lastMs = excluded.lastMs, code = excluded.code, text = excluded.text',
        args: [name, lastMs, code, text],
      });
    },
  };
}
