import { Failure } from '../kit/errors.ts';
import { parseAddress, parsePrefix } from './address.ts';
import type { Prefix } from './address.ts';
import type { Location } from './choose.ts';
import { UserLocations } from './location.ts';
import type { DispatcherSettings } from './settings.ts';
import { hostKey } from './wire/name.ts';
import type { ZoneIdentity } from './zone.ts';

/** The zone's identity out of the settings; Failure `bad-setting` when a name or address is none. */
export function identityOf(settings: DispatcherSettings, listenAddresses: readonly string[]): ZoneIdentity {
  const name = (field: string, text: string): string => {
    const key = hostKey(text);
    if (key === null) throw new Failure('bad-setting', `${field}: "${text}" is no domain name`, { remedy: 'Write labels of letters, digits and hyphens, joined by dots.' });
    return key;
  };
  const given = settings.nameserverAddresses.length > 0 ? settings.nameserverAddresses : listenAddresses;
  const apex = name('zoneName', settings.zoneName);
  return {
    apex,
    nameserver: name('nameserverName', settings.nameserverName),
    hostmaster: name('hostmaster', settings.hostmaster === '' ? `hostmaster.${apex}` : settings.hostmaster),
    nameserverAddresses: given.map((text) => {
      const address = parseAddress(text);
      if (address === null) throw new Failure('bad-setting', `nameserverAddresses: "${text}" is no address`, { remedy: 'Write 192.0.2.1 or 2001:db8::1.' });
      return address;
    }).filter((address) => address.some((byte) => byte !== 0)),
    ttlSeconds: settings.ttlSeconds,
    negativeTtlSeconds: settings.negativeTtlSeconds,
  };
}

/** The operator's places of networks; Failure `bad-setting` for a row that is no prefix. */
export function userLocationsOf(table: Readonly<Record<string, Location>>): UserLocations {
  const rows = Object.entries(table).map(([text, location]): [Prefix, Location] => {
    const prefix = parsePrefix(text);
    if (prefix === null) {
      throw new Failure('bad-setting', `userLocations: "${text}" is no network`, { remedy: 'Write 10.1.0.0/16 or fd00:1::/32, with no bits set behind the length.' });
    }
    return [prefix, location];
  });
  return new UserLocations(rows);
}
