'use strict';
// What is written outlives every instance: SQLite on a volume. Memory does not (state = "template"), so nothing is kept there.
const { createServer } = require('node:http');
const { createClient } = require('@libsql/client');

const database = createClient({ url: `file:${process.env.NOTES_FILE ?? '/data/notes.db'}` });
const textMax = 10_000;

async function answer(request) {
  const { pathname } = new URL(request.url ?? '/', 'http://app');
  if (pathname === '/health') return [200, { ok: true }];
  if (pathname !== '/notes') return [404, { error: 'here is /notes: GET lists, POST {"text": "…"} adds' }];
  if (request.method === 'GET') return [200, (await database.execute('SELECT id, text FROM notes ORDER BY id')).rows];
  if (request.method !== 'POST') return [405, { error: 'GET or POST' }];
  let body = '';
  for await (const chunk of request.setEncoding('utf8')) {
    body += chunk;
    if (body.length > textMax) return [413, { error: `at most ${textMax} characters` }];
  }
  let text;
  try {
    ({ text } = JSON.parse(body));
  } catch {
    return [400, { error: 'that is not JSON' }];
  }
  if (typeof text !== 'string' || text === '') return [400, { error: '"text" is missing' }];
  const { rows } = await database.execute({ sql: 'INSERT INTO notes (text) VALUES (?) RETURNING id, text', args: [text] });
  return [201, rows[0]];
}

const server = createServer((request, response) => {
  answer(request)
    .catch((error) => {
      console.error(error);
      return [500, { error: 'the database could not be used' }];
    })
    .then(([status, value]) => response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(value)}\n`));
});

database.execute('CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)').then(() => {
  server.listen(Number(process.env.PORT ?? 3000), '0.0.0.0', () => console.log('notes is ready'));
});
process.on('SIGTERM', () => server.close(() => process.exit(0)));
