import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, readdirSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { CertificateOrder } from '../../model/certificates.ts';
import { publicText, unwrap } from '../../../host/wrap.ts';
import { codeOf, messageOf } from '../../../kit/errors.ts';
import { certificateContext, domainPattern } from '../../../kit/wire/certificates.ts';
import { limits } from '../limits.ts';
import { readCertificate } from './certificates.ts';

/** Files of ours begin with this; all others are the operator's own, and are left alone. */
const prefix = 'acme-';
const keyFile = '.seal-key';

export interface ReceivedNews {
  stored(name: string): void;
  refused(name: string, reason: string): void;
}

/**
 * Certificates that come over the bus, sealed for this dispatcher: they are put into its folder as an operator would put them. The head,
 * through which they come, cannot read them. They outlive a bus that is away, and this process.
 */
export class ReceivedCertificates {
  /** What they shall be sealed with. */
  readonly sealTo: string;
  private readonly key: KeyObject;
  private readonly folder: string;
  private readonly news: ReceivedNews;

  constructor(folder: string, news: ReceivedNews) {
    this.folder = folder;
    this.news = news;
    this.key = this.ownKey();
    this.sealTo = publicText(this.key);
  }

  /** Takes one in the place of an earlier one of its name; `sealed` null removes it. */
  take({ name, sealed }: CertificateOrder): void {
    if (!domainPattern.test(name)) return this.news.refused(name.slice(0, 100), 'it is called by no name in DNS');
    const file = `${prefix}${name}.pem`;
    try {
      if (sealed === null) return rmSync(join(this.folder, file), { force: true });
      const opened = unwrap(sealed, this.key, certificateContext(name));
      if (opened === null) return this.news.refused(name, 'it is not sealed for this dispatcher');
      if (opened.length > limits.certificateBytes) return this.news.refused(name, `it is larger than ${limits.certificateBytes} bytes`);
      const pem = opened.toString('latin1');
      const read = readCertificate(file, pem);
      if (typeof read === 'string') return this.news.refused(name, read);
      if (this.textOf(file) === pem) return;
      this.put(file, pem);
      this.news.stored(name);
    } catch (thrown) {
      this.news.refused(name, messageOf(thrown));
    }
  }

  /** These are all there are: what is there of another name was taken back while nobody could tell. */
  keepOnly(names: readonly string[]): void {
    const kept = new Set(names.map((name) => `${prefix}${name}.pem`));
    for (const file of readdirSync(this.folder)) if (file.startsWith(prefix) && file.endsWith('.pem') && !kept.has(file)) rmSync(join(this.folder, file), { force: true });
  }

  private textOf(file: string): string | null {
    try {
      return readFileSync(join(this.folder, file), 'latin1');
    } catch {
      return null; // there is none yet, or one that cannot be read and is replaced
    }
  }

  /** Whole or not at all, also after a power cut. */
  private put(file: string, text: string): void {
    const beside = join(this.folder, `.${file}.new`);
    rmSync(beside, { force: true });
    const descriptor = openSync(beside, 'wx', 0o600);
    try {
      writeSync(descriptor, text, null, 'latin1');
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(beside, join(this.folder, file));
  }

  private ownKey(): KeyObject {
    const path = join(this.folder, keyFile);
    if (existsSync(path)) {
      try {
        return createPrivateKey(readFileSync(path, 'latin1'));
      } catch (thrown) {
        // What was sealed with it lies on the bus only until it is sealed anew.
        this.news.refused(keyFile, `the key cannot be read, and another takes its place: ${codeOf(thrown)}`);
      }
    }
    const { privateKey } = generateKeyPairSync('x25519');
    this.put(keyFile, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
    return privateKey;
  }
}
