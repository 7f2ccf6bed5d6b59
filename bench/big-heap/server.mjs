/**
 * A server with a big heap of real data: the records of a city database, each parsed to an object of its own, until the heap holds
 * HEAP_MEGABYTES. `/` looks one record up, `/touch?seed=N` a hundred all over the heap, `/checksum` reads every one.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Reader } from './mmdb-lib/lib/index.js';

const enoughBytes = Number(process.env.HEAP_MEGABYTES) * 2 ** 20;
const touched = 100;
const records = [];

function load() {
  const reader = new Reader(readFileSync(new URL('cities.mmdb', import.meta.url)));
  for (let ip = 2 ** 24; ip < 2 ** 32; ) {
    const address = [24, 16, 8, 0].map((shift) => Math.floor(ip / 2 ** shift) % 256).join('.');
    const [record, prefixBits] = reader.getWithPrefixLength(address);
    if (record) records.push({ network: `${address}/${prefixBits}`, ...record });
    ip += 2 ** (32 - prefixBits);
    if (records.length % 10_000 === 0 && process.memoryUsage().heapUsed > enoughBytes) return;
  }
}

/** FNV-1a over the characters of every field: nothing of the record stays unread. */
function hashOf(record, start) {
  let hash = start;
  for (const key in record) {
    const text = String(record[key]);
    for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 16_777_619) >>> 0;
  }
  return hash;
}

/** Places all over the heap that the seed decides (xorshift32). */
function touch(seed) {
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  let hash = 2_166_136_261;
  for (let count = 0; count < touched; count += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    hash = hashOf(records[(state >>> 0) % records.length], hash);
  }
  return hash;
}

load();
createServer((request, response) => {
  const url = new URL(request.url, 'http://x');
  let answer = records[(records.length / 2) | 0].city;
  if (url.pathname === '/touch') answer = touch(Number(url.searchParams.get('seed')));
  if (url.pathname === '/checksum') answer = records.reduce((hash, record) => hashOf(record, hash), 2_166_136_261);
  response.end(String(answer));
}).listen(8080, '0.0.0.0');
