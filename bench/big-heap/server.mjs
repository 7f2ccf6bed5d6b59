/**
 * A server with a big heap of real data: the records of a city database, each parsed to an object of its own, until they are
 * HEAP_MEGABYTES. `/` answers with one record's city, `/touch?seed=N` reads a hundred records all over the heap, `/checksum` every one.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Reader } from './mmdb-lib/lib/index.js';

const enoughBytes = Number(process.env.HEAP_MEGABYTES) * 2 ** 20;
const touched = 100;
const hashBegin = 2_166_136_261;

function load() {
  const records = [];
  const reader = new Reader(readFileSync(new URL('cities.mmdb', import.meta.url)));
  for (let ip = 2 ** 24; ip < 2 ** 32; ) {
    const address = [24, 16, 8, 0].map((shift) => Math.floor(ip / 2 ** shift) % 256).join('.');
    const [record, prefixBits] = reader.getWithPrefixLength(address);
    if (record) records.push({ network: `${address}/${prefixBits}`, ...record });
    ip += 2 ** (32 - prefixBits);
    if (records.length % 50_000 === 0 && process.memoryUsage().heapUsed > enoughBytes) {
      globalThis.gc(); // what counts are the records, not the garbage of reading them
      if (process.memoryUsage().heapUsed > enoughBytes) break;
    }
  }
  return records;
}

/** FNV-1a over the characters of every field: nothing of the record stays unread. */
function hashOf(record, begin) {
  let hash = begin;
  for (const key in record) {
    const text = String(record[key]);
    for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 16_777_619) >>> 0;
  }
  return hash;
}

/** Places all over the heap that the seed decides (xorshift32). */
function touch(seed) {
  let state = Math.imul(seed + 1, 2_654_435_761) >>> 0 || 1;
  let hash = hashBegin;
  for (let count = 0; count < touched; count += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    hash = hashOf(records[(state >>> 0) % records.length], hash);
  }
  return hash;
}

const records = load();
globalThis.gc();
createServer((request, response) => {
  const url = new URL(request.url, 'http://x');
  let answer = records[records.length >> 1].city;
  if (url.pathname === '/touch') answer = touch(Number(url.searchParams.get('seed')));
  if (url.pathname === '/checksum') answer = records.reduce((hash, record) => hashOf(record, hash), hashBegin);
  response.end(String(answer));
}).listen(8080, '0.0.0.0');
