import { readdirSync, readFileSync, statSync, watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { join } from 'node:path';
import { Failure, messageOf } from '../../../kit/errors.ts';
import { CertificateTable, readCertificate } from './certificates.ts';
import type { Certificate } from './certificates.ts';
import { limits } from '../limits.ts';

/** Where certificates come from. Whoever renews them puts a file in the place of the old one, by a rename; nobody is told. */
export interface CertificateSource {
  /** The table as it is now; another object after each change. */
  readonly table: CertificateTable;
  stop(): void;
}

export interface CertificateNews {
  changed(certificates: number, names: number): void;
  /** A file that is not used; an earlier text of it, if there was a good one, stays in use. Says nothing of its contents. */
  refused(file: string, reason: string): void;
}

interface Known {
  /** What tells one text of a file from another without reading it. */
  readonly stamp: string;
  readonly certificate: Certificate | null;
}

/**
 * The certificates of a folder: each `NAME.pem` holds a private key and its chain. Others must not be able to read it. Changes are
 * seen by inotify(7) and taken over `certificatesSettleMs` after the last of them.
 */
export class CertificateFolder implements CertificateSource {
  table = new CertificateTable([]);
  private readonly folder: string;
  private readonly news: CertificateNews;
  private readonly known = new Map<string, Known>();
  private readonly watcher: FSWatcher;
  private timer: ReturnType<typeof setTimeout> | null = null;

  /** Throws a Failure `no-certificates` when the folder cannot be read. */
  constructor(folder: string, news: CertificateNews) {
    this.folder = folder;
    this.news = news;
    try {
      // Watched first: what changes while it is read is seen afterwards.
      this.watcher = watch(folder, () => this.soon());
      this.read();
    } catch (cause) {
      throw new Failure('no-certificates', `the folder of certificates ${folder} cannot be read: ${messageOf(cause)}`, { cause, remedy: "Make it, for the dispatcher's user alone (mode 0700)." });
    }
    this.watcher.on('error', (error) => this.news.refused(folder, `it is no longer watched: ${error.message}`));
  }

  stop(): void {
    this.watcher.close();
    if (this.timer !== null) clearTimeout(this.timer);
  }

  private soon(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      try {
        this.read();
      } catch (error) {
        this.news.refused(this.folder, messageOf(error));
      }
    }, limits.certificatesSettleMs);
  }

  private read(): void {
    const files = readdirSync(this.folder).filter((name) => name.endsWith('.pem') && !name.startsWith('.')).toSorted();
    let changed = false;
    for (const name of this.known.keys()) if (!files.includes(name)) changed = this.known.delete(name) || changed;
    for (const name of files.slice(0, limits.certificates)) changed = this.readFile(name) || changed;
    if (files.length > limits.certificates) this.news.refused(this.folder, `it has more than ${limits.certificates} certificates; the last are left out`);
    if (!changed) return;
    const certificates = [...this.known.values()].flatMap(({ certificate }) => (certificate === null ? [] : [certificate]));
    this.table = new CertificateTable(certificates);
    this.news.changed(certificates.length, this.table.size);
  }

  /** True when what is used of it has changed. */
  private readFile(name: string): boolean {
    const before = this.known.get(name);
    const path = join(this.folder, name);
    let stamp = '';
    let read: Certificate | string;
    try {
      const { mode, uid, size, ino, mtimeMs } = statSync(path);
      stamp = `${ino} ${size} ${mtimeMs} ${mode} ${uid}`;
      if (before?.stamp === stamp) return false;
      read = whyUnsafe(mode, uid, size) || readCertificate(name, readFileSync(path, 'latin1'));
    } catch (thrown) {
      read = messageOf(thrown);
    }
    if (typeof read === 'string') {
      this.news.refused(name, read);
      this.known.set(name, { stamp, certificate: before?.certificate ?? null });
      return false;
    }
    this.known.set(name, { stamp, certificate: read });
    return true;
  }
}

/** '' or why a key in a file like this is not used. */
function whyUnsafe(mode: number, uid: number, size: number): string {
  if ((mode & 0o077) !== 0) return `others may read its private key (mode ${(mode & 0o777).toString(8)}); it must be 600 or 400`;
  if (uid !== process.getuid?.()) return `it belongs to user ${uid}, not to the dispatcher's`;
  return size > limits.certificateBytes ? `it is larger than ${limits.certificateBytes} bytes` : '';
}
