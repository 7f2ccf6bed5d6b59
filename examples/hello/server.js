'use strict';
// The small app: it keeps nothing, so any number of copies of it may answer.
const { hostname } = require('node:os');
const { randomUUID } = require('node:crypto');
const express = require('express');

const app = express();
const bootedMs = Date.now();
let requests = 0;

app.use((request, response, next) => {
  requests += 1;
  next();
});

app.get('/', (request, response) => {
  response.type('text/plain').send(`hello from ${hostname()}\n`);
});

// Which copy answers, and how long it has been there.
app.get('/whoami', (request, response) => {
  response.json({ instance: hostname(), pid: process.pid, requests, bootedMs, nowMs: Date.now(), fresh: randomUUID() });
});

// Burns about `ms` milliseconds of processor time: /burn?ms=50
app.get('/burn', (request, response) => {
  const ms = Math.min(10_000, Math.max(0, Number(request.query.ms ?? 20) || 0));
  const began = process.cpuUsage();
  let turns = 0;
  for (;;) {
    for (let step = 0; step < 10_000; step += 1) turns += Math.sqrt(step) % 2;
    const { user, system } = process.cpuUsage(began);
    if ((user + system) / 1000 >= ms) break;
  }
  response.json({ instance: hostname(), burntMs: ms, turns: Math.round(turns) });
});

const server = app.listen(Number(process.env.PORT ?? 3000), '0.0.0.0', () => console.log(`hello listens on ${server.address().port}`));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
