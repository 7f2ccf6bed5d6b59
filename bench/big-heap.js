'use strict';
// An app of the benchmark `frozen`: keeps real texts, parsed into objects again and again until the heap is as big as HEAP_MEGABYTES
// says, and answers each request with one of them. corpus.json is an array of JSON texts. With HEAP_OF=lines it is of any texts, and each is
// taken only once, as objects for its lines and words.
const { readFileSync } = require('node:fs');
const { createServer } = require('node:http');

let texts = JSON.parse(readFileSync('corpus.json', 'utf8'));
const wantedBytes = Number(process.env.HEAP_MEGABYTES) * 2 ** 20;
const documents = [];
const wordsOf = (line) => Array.from(line.matchAll(/\w+/g), (found) => ({ word: found[0], column: found.index }));
const linesOf = (text) => text.split('\n').map((line, number) => ({ number, line, words: wordsOf(line) }));
if (process.env.HEAP_OF === 'lines') {
  for (const text of texts) if (documents.length % 16 !== 0 || process.memoryUsage().heapUsed < wantedBytes) documents.push(linesOf(text));
    else break;
} else while (process.memoryUsage().heapUsed < wantedBytes) for (const text of texts) documents.push(JSON.parse(text));
texts = null;
global.gc(); // what is left over of parsing is not of the heap that is measured

let next = 0;
createServer((request, response) => {
  next = (next + 7919) % documents.length;
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(documents[next]));
}).listen(Number(process.env.PORT), '0.0.0.0');
