// The one program of a build's box. The head asks it over HTTP to unpack, to run and to pack; what it runs writes to the log of the
// instance. Whatever is built may reach it and do with it what it likes: that is the same provider's, and the head believes none of it.
'use strict';
const { spawn } = require('node:child_process');
const { readdirSync, statfsSync } = require('node:fs');
const { createServer } = require('node:http');

const failed = (response, error) => (response.headersSent ? response.destroy() : response.writeHead(500).end(String(error)));

/** What is left of the private disk, which lies above everything here. */
function room() {
  const { bavail, bsize, ffree } = statfsSync('/');
  return { freeBytes: bavail * bsize, freeFiles: ffree };
}

/** POST /run {argv, cwd, env}: answered when it has ended; what it started in the background is ended with its group. */
function run(request, response) {
  let text = '';
  request.on('data', (chunk) => (text += chunk));
  request.on('end', () => {
    const { argv, cwd, env } = JSON.parse(text);
    if (argv[0] !== 'cp') process.stdout.write(`$ ${argv.join(' ')}\n`);
    const child = spawn(argv[0], argv.slice(1), { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'inherit', 'inherit'], detached: true });
    const answer = (told) => response.headersSent || response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ ...told, ...room() }));
    child.once('error', (error) => answer({ status: 127, signal: '', error: error.message }));
    child.once('exit', (status, signal) => {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // Nothing was left of it.
      }
      answer({ status: status ?? 0, signal: signal ?? '', error: '' });
    });
  });
}

/** PUT /unpack: a tar.gz into /app. */
function unpack(request, response) {
  const child = spawn('tar', ['-xzf', '-', '-C', '/app'], { stdio: ['pipe', 'inherit', 'inherit'] });
  child.stdin.on('error', () => undefined);
  request.pipe(child.stdin);
  child.once('error', (error) => failed(response, error));
  child.once('exit', (status) => (status === 0 ? response.writeHead(200).end() : failed(response, `tar ended with ${status}`)));
}

/** GET /pack?name=…: those of /app as a tar.gz, all when none is named; cut off when it does not succeed. */
function pack(url, response) {
  const asked = url.searchParams.getAll('name');
  const there = readdirSync('/app').sort();
  const names = asked.length === 0 ? there : there.filter((name) => asked.includes(name));
  const child = spawn('tar', ['-czf', '-', '-C', '/app', '--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--null', '--verbatim-files-from', '-T', '-'], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.on('error', () => undefined);
  child.stdin.end(names.map((name) => `${name}\0`).join(''));
  child.once('error', (error) => failed(response, error));
  response.writeHead(200, { 'content-type': 'application/gzip' });
  child.stdout.pipe(response, { end: false });
  child.once('close', (status) => (status === 0 ? response.end() : response.destroy()));
  response.once('close', () => child.kill('SIGKILL'));
}

createServer((request, response) => {
  try {
    const url = new URL(request.url, 'http://build');
    if (request.method === 'POST' && url.pathname === '/run') return run(request, response);
    if (request.method === 'PUT' && url.pathname === '/unpack') return unpack(request, response);
    if (request.method === 'GET' && url.pathname === '/pack') return pack(url, response);
    response.writeHead(200, { 'content-type': 'text/plain' }).end(`${process.version} ${process.arch}`);
  } catch (error) {
    failed(response, error);
  }
}).listen(Number(process.env.PORT), '0.0.0.0');
