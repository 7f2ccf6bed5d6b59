import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

/** A folder of certificates as an operator has it, with an authority of the test's own. */
export interface TestCertificates {
  readonly folder: string;
  /** The authority's certificate, for clients. */
  readonly authority: string;
  /** Makes a certificate for these names and puts it into the folder, by a rename. Gives its PEM text. */
  put(file: string, names: readonly string[], options?: { days?: number; mode?: number }): string;
  remove(file: string): void;
}

export function openCertificates(t: Test): TestCertificates {
  const work = mkdtempSync(join(tmpdir(), 'authority-'));
  const folder = mkdtempSync(join(tmpdir(), 'certificates-'));
  t.teardown(() => {
    rmSync(work, { recursive: true, force: true });
    rmSync(folder, { recursive: true, force: true });
  });
  const openssl = (...args: readonly string[]): void => void execFileSync('openssl', args, { cwd: work, stdio: ['ignore', 'ignore', 'pipe'] });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.crt', '-days', '30', '-subj', '/CN=test authority');
  let made = 0;
  const put: TestCertificates['put'] = (file, names, { days = 30, mode = 0o600 } = {}) => {
    const name = `leaf-${(made += 1)}`;
    openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    writeFileSync(join(work, `${name}.ext`), `subjectAltName=${names.map((each) => `DNS:${each}`).join(',')}\n`);
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-out', `${name}.crt`, '-days', `${days}`, '-extfile', `${name}.ext`);
    const pem = readFileSync(join(work, `${name}.key`), 'latin1') + readFileSync(join(work, `${name}.crt`), 'latin1');
    // In the folder under a name that is not looked at, then in its place.
    const hidden = join(folder, `.${file}.new`);
    writeFileSync(hidden, pem, { mode });
    chmodSync(hidden, mode);
    renameSync(hidden, join(folder, file));
    return pem;
  };
  return { folder, authority: readFileSync(join(work, 'ca.crt'), 'latin1'), put, remove: (file) => rmSync(join(folder, file)) };
}
